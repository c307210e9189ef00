"""Two ideas from elsewhere as trainers of their own, for comparison: no option of the library."""

from typing import Any

import torch
from trl.trainer import grpo_trainer

from trl_mtgrpo import MultiTaskGRPOTrainer
from trl_mtgrpo.improvement.loss_inputs import TASK_IDS


SIGN = "zero_variance_sign"  # per row: 1 where all answers of its prompt are right, -1 where all are wrong, else 0


class ZeroVarianceTrainer(MultiTaskGRPOTrainer):
    """
    Groups whose rewards are all alike train too, as in RL-ZVP (arXiv 2509.21880).

    Each token of a right answer has the advantage a H, each of a wrong one -a (max H - H), with H the entropy of the
    model at that token, without gradient, and a = 0.1. For rewards of 0 and 1, on one process.
    """

    SCALE = 0.1

    def _calculate_rewards(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        rewards = super()._calculate_rewards(*args, **kwargs)
        self._last_rewards = rewards.nansum(dim=1)
        return rewards

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        batch = super()._generate_and_score_completions(inputs)
        if len(self._last_rewards) != len(batch["advantages"]):
            raise RuntimeError("The rewards that were seen last are not those of the batch.")
        alike = batch["advantages"] == 0
        batch[SIGN] = torch.where(alike, self._last_rewards.sign() * 2 - 1, torch.zeros_like(self._last_rewards))
        return batch

    def _compute_loss(self, model: Any, inputs: dict[str, Any]) -> torch.Tensor:
        self._loss_inputs, advantages = inputs, inputs["advantages"]
        try:
            return super()._compute_loss(model, inputs)
        finally:
            self._loss_inputs, inputs["advantages"] = None, advantages

    def _get_per_token_logps_and_entropies(self, *args: Any, **kwargs: Any) -> Any:
        found = super()._get_per_token_logps_and_entropies(*args, **kwargs)
        inputs, entropies = getattr(self, "_loss_inputs", None), found[1]
        if inputs is not None and SIGN in inputs and entropies is not None:
            entropies = entropies.detach()
            highest = torch.where(inputs["completion_mask"].bool(), entropies, 0.0).amax(dim=1, keepdim=True)
            sign = inputs[SIGN].unsqueeze(1)
            shaped = torch.where(sign > 0, entropies, entropies - highest) * (sign != 0)
            inputs["advantages"] = inputs["advantages"].unsqueeze(1) + self.SCALE * shaped
        return found


class OneTaskStepsTrainer(MultiTaskGRPOTrainer):
    """The optimizer steps of a batch go from task to task in a random order, as CGPO's do, instead of mixing all."""

    def _prepare_inputs(self, generation_batch: Any) -> dict[str, Any]:
        shuffle, grpo_trainer.shuffle_sequence_dict = grpo_trainer.shuffle_sequence_dict, by_task
        try:
            return super()._prepare_inputs(generation_batch)
        finally:
            grpo_trainer.shuffle_sequence_dict = shuffle


def by_task(batch: dict[str, Any]) -> dict[str, Any]:
    """Rows of a task side by side, tasks in random order."""
    tasks = batch[TASK_IDS]
    place = torch.randperm(int(tasks.max()) + 2)
    order = torch.argsort(place[tasks + 1], stable=True)
    return {name: _reordered(value, order) for name, value in batch.items()}


def _reordered(value: Any, order: torch.Tensor) -> Any:
    if isinstance(value, torch.Tensor):
        return value[order] if value.dim() else value
    return [value[i] for i in order.tolist()] if isinstance(value, list) else value


VARIANTS = {"zero_variance": ZeroVarianceTrainer, "one_task_steps": OneTaskStepsTrainer}
