"""What one training step wants and what it has got so far: the only value that moves between rounds."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike

from .requests import FloatVector, IntVector, apportion


@dataclass(frozen=True, eq=False)
class BatchLedger:
    """
    What one training step wants and has got so far. Arrays are of shape `(K,)`.

    Args:
        weights (`numpy.ndarray`): Task weights z that the step was opened with.
        desired (`numpy.ndarray` of `int`): n, groups that should train; adds up to the batch.
        carried (`numpy.ndarray` of `int`): Accepted groups brought along from earlier steps.
        generated (`numpy.ndarray` of `int`): Groups generated in this step.
        accepted (`numpy.ndarray` of `int`): Groups of this step that passed the filter.
        tokens (`numpy.ndarray`): Tokens generated in this step, as far as reported.
        probes (`numpy.ndarray` of `int`): Groups to try in the first round beside the desired ones.
        tokens_per_group (`numpy.ndarray`, *optional*): What a group is expected to cost.
        patience (`numpy.ndarray` of `int`, *optional*): Groups without an accepted one after which a task is not asked
            for more in this step.
        rounds (`int`): Rounds recorded.
        preserve_ratio (`bool`): Whether each task has its own deficit, or only the batch as a whole.
        spared (`float`): Rollouts of this step that generated groups did without, in groups.
    """

    weights: FloatVector
    desired: IntVector
    carried: IntVector
    generated: IntVector
    accepted: IntVector
    tokens: FloatVector
    probes: IntVector
    tokens_per_group: FloatVector | None = None
    patience: IntVector | None = None
    rounds: int = 0
    preserve_ratio: bool = True
    spared: float = 0.0

    @classmethod
    def start(
        cls, weights: ArrayLike, desired: ArrayLike, carried: ArrayLike | None = None, preserve_ratio: bool = True
    ) -> "BatchLedger":
        """
        The ledger of a step in which nothing is generated yet: what a sampler's `open` returns.

        Args:
            weights (`numpy.ndarray` of shape `(K,)`):
                Task weights z.
            desired (`numpy.ndarray` of `int`, shape `(K,)`):
                Groups that should train.
            carried (`numpy.ndarray` of `int`, shape `(K,)`, *optional*):
                Accepted groups kept from earlier steps.
            preserve_ratio (`bool`, *optional*, defaults to `True`):
                Whether each task has its own deficit, or only the batch as a whole.

        Raises:
            ValueError: If a count is negative or of another shape than `weights`.
        """
        shares = np.asarray(weights, dtype=np.float64)
        none = np.zeros(shares.size, dtype=np.int64)
        return cls(
            weights=shares,
            desired=as_counts("desired", desired, none),
            carried=none if carried is None else as_counts("carried", carried, none),
            generated=none,
            accepted=none,
            tokens=np.zeros(shares.size),
            probes=none,
            preserve_ratio=preserve_ratio,
        )

    def with_context(
        self,
        probes: ArrayLike | None = None,
        tokens_per_group: ArrayLike | None = None,
        patience: ArrayLike | None = None,
    ) -> "BatchLedger":
        """
        The ledger with what the caller knows besides the weights, before the first round. Samplers may ignore it.

        Args:
            probes (`numpy.ndarray` of `int`, shape `(K,)`, *optional*):
                Groups to try once beside the desired ones, as [`StallDoctor.probes`] asks for. Never refilled.
            tokens_per_group (`numpy.ndarray` of shape `(K,)`, *optional*):
                Expected tokens of a group, NaN where nothing is known, for a limit on tokens.
            patience (`numpy.ndarray` of `int`, shape `(K,)`, *optional*):
                Groups without an accepted one after which a task is not asked for more in this step, as
                [`StallDoctor.patience_left`] says.

        Raises:
            ValueError: If a shape does not fit or a value is negative.
        """
        cost = self.tokens_per_group
        if tokens_per_group is not None:
            cost = np.array(tokens_per_group, dtype=np.float64)
            if cost.shape != self.desired.shape or (cost < 0).any():
                raise ValueError(
                    f"`tokens_per_group` must be non-negative numbers of shape {self.desired.shape}, got "
                    f"{cost.tolist()}. Pass one per task, NaN where nothing is known."
                )
        counts = self.probes if probes is None else as_counts("probes", probes, self.desired)
        limit = self.patience if patience is None else as_counts("patience", patience, self.desired)
        return replace(self, probes=counts, tokens_per_group=cost, patience=limit)

    @property
    def available(self) -> IntVector:
        """c, the groups that may train: carried and accepted."""
        return self.carried + self.accepted

    @property
    def owed(self) -> IntVector:
        """Desired groups of each task that nothing of its own fills so far, max(n - c, 0)."""
        missing: IntVector = np.maximum(self.desired - self.available, 0)
        return missing

    @property
    def deficits(self) -> IntVector:
        """
        Groups still missing, max(n - c, 0). Without `preserve_ratio` any group fills any place, and what the batch
        lacks is spread over the tasks by weight.
        """
        if self.preserve_ratio:
            return self.owed
        missing = int(self.desired.sum() - self.available.sum())
        return apportion(max(missing, 0), self.weights)

    @property
    def expected_tokens(self) -> FloatVector | None:
        """Expected tokens of a group per task: this step's, else `tokens_per_group`, else the mean over tasks."""
        known = np.full(self.desired.size, np.nan)
        if self.tokens_per_group is not None:
            known = self.tokens_per_group.copy()
        seen = (self.generated > 0) & (self.tokens > 0)
        known[seen] = self.tokens[seen] / self.generated[seen]
        if np.isnan(known).all():
            return None
        return np.where(np.isnan(known), float(np.nanmean(known)), known)

    def record(
        self, generated: ArrayLike, accepted: ArrayLike, tokens: ArrayLike | None = None, spared: float = 0.0
    ) -> "BatchLedger":
        """
        The ledger after one more round.

        Args:
            generated (`numpy.ndarray` of `int`, shape `(K,)`):
                Groups generated in the round.
            accepted (`numpy.ndarray` of `int`, shape `(K,)`):
                How many of them passed the filter.
            tokens (`numpy.ndarray` of shape `(K,)`, *optional*):
                Tokens they cost.
            spared (`float`, *optional*, defaults to `0.0`):
                Rollouts that they did without because they ended early, in groups.

        Raises:
            ValueError: If a count is negative or more groups were accepted than generated.
        """
        new, kept = as_counts("generated", generated, self.desired), as_counts("accepted", accepted, self.desired)
        if (kept > new).any():
            raise ValueError(
                f"`accepted` must be at most `generated` = {new.tolist()}, got {kept.tolist()}. Count each group once."
            )
        spent = np.zeros(new.size) if tokens is None else np.asarray(tokens, dtype=np.float64)
        return replace(
            self,
            generated=self.generated + new,
            accepted=self.accepted + kept,
            tokens=self.tokens + spent,
            rounds=self.rounds + 1,
            spared=self.spared + spared,
        )


def as_counts(name: str, values: ArrayLike, like: IntVector) -> IntVector:
    """`values` as counts of the shape of `like`, or a `ValueError` that names them."""
    counts = np.asarray(values, dtype=np.int64)
    if counts.shape != like.shape or (counts < 0).any():
        raise ValueError(
            f"`{name}` must be non-negative counts of shape {like.shape}, got {counts.tolist()}. Pass one per task."
        )
    return counts
