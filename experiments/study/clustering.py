"""How filters are clustered, as options."""

import dataclasses
from typing import Annotated, Literal

from annotated_types import Ge

from experiments.cli.options import Restarts, Settings, Several, check, one_of
from jaxinit import distances
from jaxinit.distances import Representative

_FEWEST_CLUSTERED = 192  # slices of a layer: what a first layer of 64 filters has
DistanceName = Annotated[str, one_of(distances.names())]


@dataclasses.dataclass(frozen=True)
class Clustering(Settings):
    """How filters are clustered."""

    # distances between slices of filters; fourier is that of magnitudes, fourier_real that of real
    # parts, as in the authors' program
    distances: Several[DistanceName] = ("euclidean", "fourier")
    # the filter that stands for a cluster: centroid (mean of its members), medoid (the member
    # nearest its centre), member (a random one), inverse (the centre transformed back); auto: that
    # of the distance: centroid, but member for fourier, whose clusters hold filters and their
    # negatives alike, and inverse for fourier_real
    representative: Literal["auto", Representative] = "auto"
    # times that k-means starts anew; the best is kept
    restarts: Restarts = 3
    # slices of one layer that are clustered; where the models together have more, as many are drawn
    # evenly
    most_slices: Annotated[int, Ge(_FEWEST_CLUSTERED)] = 2**24

    def __post_init__(self) -> None:
        super().__post_init__()
        for distance in self.distances:
            check(
                self.representative != "inverse" or distances.get(distance).inverse is not None,
                f"--representative inverse does not go with {distance}, which has no inverse: "
                "choose centroid, medoid or member",
            )

    def resolved(self, distance: str) -> Representative:
        """How a cluster becomes a filter (`jaxinit.distances.REPRESENTATIVES`: what follows)."""
        if self.representative != "auto":
            return self.representative
        return distances.get(distance).representative
