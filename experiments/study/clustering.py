"""How filters are clustered, as options."""

import dataclasses

from experiments.cli.options import check, option
from jaxinit import distances

_FEWEST_CLUSTERED = 192  # slices of a layer: what a first layer of 64 filters has
DISTANCES = ("euclidean", "fourier", "fourier_real", "cosine")


@dataclasses.dataclass(frozen=True)
class Clustering:
    """How filters are clustered."""

    distances: tuple[str, ...] = option(
        ("euclidean", "fourier"),
        "distances between slices of filters; fourier is that of magnitudes, fourier_real of real "
        "parts (the authors' program)",
        choices=DISTANCES,
    )
    representative: str = option(
        "auto",
        "the filter that stands for a cluster: centroid (mean of its members), medoid (the member "
        "nearest its centre), member (a random one), inverse (the centre transformed back); auto: "
        "centroid, but member for fourier, whose clusters hold filters and their negatives alike, "
        "and inverse for fourier_real",
        choices=("auto", "centroid", "medoid", "member", "inverse"),
    )
    restarts: int = option(3, "times that k-means starts anew; the best is kept")
    most_slices: int = option(
        2**24,
        "slices of one layer that are clustered; where the models together have more, as many are "
        "drawn evenly",
    )

    def __post_init__(self) -> None:
        check(self.restarts >= 1, f"--restarts {self.restarts} is too small: say 1 or more")
        check(
            self.most_slices >= _FEWEST_CLUSTERED,
            f"--most-slices {self.most_slices} is too small: say {_FEWEST_CLUSTERED} or more",
        )
        for distance in self.distances:
            check(
                self.representative != "inverse" or distances.get(distance).inverse is not None,
                f"--representative inverse does not go with {distance}, which has no inverse: "
                "choose centroid, medoid or member",
            )

    def resolved(self, distance: str) -> str:
        """How a cluster becomes a filter (`jaxinit.banks.REPRESENTATIVES` says what follows)."""
        if self.representative != "auto":
            return self.representative
        return {"fourier": "member", "fourier_real": "inverse"}.get(distance, "centroid")
