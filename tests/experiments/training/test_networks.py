"""The network that the settings ask for."""

import pytest

from experiments.cli.errors import UserError
from experiments.training import networks
from experiments.training.hyperparameters import Training


def test_images_that_a_network_does_not_take_get_a_sentence():
    network = networks.make_network(10, Training(network="vgg11"))
    with pytest.raises(UserError, match=r"too small .*: choose another --network or --image-size"):
        networks.trace(network, (12, 12, 3))
