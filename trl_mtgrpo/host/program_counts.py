"""The numbers of programs in a step: per task and per module, over every rollout."""

import numpy as np
from numpy.typing import NDArray

from ..rollouts import CollectedBatch
from ..rollouts.facts import NOWHERE


class ProgramCounts:
    """
    Counts what the programs of a step did.

    Args:
        names (`tuple[str, ...]`):
            Task names in order.
    """

    def __init__(self, names: tuple[str, ...]) -> None:
        self.names = names
        self.waves = self.bundles = self.num_rollouts = 0
        self._rewards: list[tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.bool_]]] = []
        # Task, role, tokens and whether it could be read, of each call.
        self._calls: list[NDArray[np.int64]] = []

    def rollouts(self, task_ids: NDArray[np.int64], reward: NDArray[np.float64], failed: NDArray[np.bool_]) -> None:
        """Adds rollouts of all ranks."""
        self._rewards.append((task_ids, reward, failed))
        self.num_rollouts += len(task_ids)

    def calls(self, task_ids: NDArray[np.int64], columns: NDArray[np.int64]) -> None:
        """Adds their calls, with the columns of [`CallTable`]."""
        self._calls.append(np.stack([task_ids, columns[:, 1], columns[:, 3], columns[:, 6]], axis=1))

    def metrics(self, modules: list[list[str]], programs: NDArray[np.bool_]) -> dict[str, float]:
        """
        The metrics of what was generated.

        Args:
            modules (`list[list[str]]`):
                Names of each task's modules.
            programs (`numpy.ndarray` of `bool`, shape `(K,)`):
                Tasks with a program.

        Returns:
            `dict[str, float]`: `tasks/<name>/{reward,failed_rollouts,format_failures,calls_per_rollout}`, where
            `failed_rollouts` is a share of the rollouts and `format_failures` one of the calls, and
            `modules/<name>.<module>/{calls,tokens}`.
        """
        if not self._rewards:
            return {}
        task_ids, reward, failed = (np.concatenate(column) for column in zip(*self._rewards, strict=True))
        calls = np.concatenate(self._calls)
        metrics: dict[str, float] = {}
        for k in np.flatnonzero(programs).tolist():
            mine, made = task_ids == k, calls[calls[:, 0] == k]
            if not mine.any():
                continue
            known = reward[mine][~np.isnan(reward[mine])]
            of_task = {
                "reward": float(known.mean()) if len(known) else float("nan"),
                "failed_rollouts": float(failed[mine].mean()),
                "format_failures": float(made[:, 3].mean()) if len(made) else 0.0,
                "calls_per_rollout": len(made) / int(mine.sum()),
            }
            metrics |= {f"tasks/{self.names[k]}/{key}": value for key, value in of_task.items()}
            for role, module in enumerate(modules[k]):
                own = made[made[:, 1] == role]
                metrics[f"modules/{self.names[k]}.{module}/calls"] = float(len(own))
                metrics[f"modules/{self.names[k]}.{module}/tokens"] = float(own[:, 2].sum())
        return metrics

    def batch_metrics(
        self, batch: CollectedBatch, modules: list[list[str]], programs: NDArray[np.bool_]
    ) -> dict[str, float]:
        """
        The same with what became of it in a training batch.

        Args:
            batch ([`CollectedBatch`]):
                The batch.
            modules (`list[list[str]]`):
                Names of each task's modules.
            programs (`numpy.ndarray` of `bool`, shape `(K,)`):
                Tasks with a program.

        Returns:
            `dict[str, float]`: besides `modules/<name>.<module>/{groups,members,filtered_ratio,token_share}` (groups
            generated, members of one, share of them that does not train, share of the task's trained tokens) and
            `sampling/{waves,filler_rows,bundles}`.
        """
        metrics = self.metrics(modules, programs)
        made, trained = batch.generated, batch.groups.select(~batch.is_filler)
        for k in np.flatnonzero(programs).tolist():
            of_task = trained.tokens[trained.task == k].sum()
            for role, module in enumerate(modules[k]):
                own = made.select((made.task == k) & (made.role == role))
                share = trained.tokens[(trained.task == k) & (trained.role == role)].sum()
                name = f"modules/{self.names[k]}.{module}"
                metrics[f"{name}/groups"] = float(len(own))
                metrics[f"{name}/members"] = float(own.members.mean()) if len(own) else float("nan")
                metrics[f"{name}/filtered_ratio"] = float(1.0 - own.accepted.mean()) if len(own) else float("nan")
                metrics[f"{name}/token_share"] = float(share / of_task) if of_task else float("nan")
        return metrics | {
            "sampling/waves": float(self.waves),
            "sampling/bundles": float(self.bundles),
            "sampling/filler_rows": float((trained.place[:, :, 1] == NOWHERE).sum()),
        }
