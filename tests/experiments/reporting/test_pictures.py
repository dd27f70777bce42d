import numpy as np
from matplotlib.image import AxesImage

from experiments.reporting import pictures
from tests.experiments.small import texts


def test_filters_are_in_the_order_of_their_sizes_centred_on_zero():
    centres = np.arange(27.0).reshape(3, 3, 3) - 5
    figure = pictures.filter_figure(
        {"conv1": centres, "layer1_0/conv1": centres[:1]},
        {"conv1": np.array([10, 60, 30]), "layer1_0/conv1": np.array([7])},
        "Filters",
        largest=2,
    )
    images = [c for c in figure.axes[0].images if isinstance(c, AxesImage)]
    assert len(images) == 3
    for image, centre in zip(images, (centres[1], centres[2], centres[0]), strict=True):
        np.testing.assert_array_equal(image.get_array(), centre)
        low, high = image.get_clim()
        assert low == -high
    assert [t for t in texts(figure) if t.endswith("%")] == ["60%", "30%", "100%"]
    assert "conv1\n(2 of 3)" in texts(figure)
