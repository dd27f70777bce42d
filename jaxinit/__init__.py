"""What should a convolutional network start from? Informed initialisation for JAX and Flax."""
