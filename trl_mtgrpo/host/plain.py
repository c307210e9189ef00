"""What the trainer's hooks do where there are no tasks: what the host does."""

from typing import Any

import torch
from transformers.trainer_utils import EvalLoopOutput
from trl import GRPOTrainer


class PlainRun:
    """
    Passes every hook on to the host.

    Each method has the name of what it decides and gets the host's own methods as `host`. [`MixtureRun`] overrides
    those that several tasks change.
    """

    state: Any = None

    @property
    def task_weights(self) -> dict[str, float]:
        """The weights that the next generation batch follows, by task name."""
        return {}

    def attach(self, trainer: GRPOTrainer) -> None:
        """Called once, when the host's constructor is done."""

    def train_sampler(self, host: GRPOTrainer, dataset: Any) -> Any:
        return host._get_train_sampler(dataset)

    def prepare(self, host: GRPOTrainer, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        return host._generate_and_score_completions(inputs)

    def generate(self, host: GRPOTrainer, prompts: list[Any]) -> tuple[Any, ...]:
        return host._generate(prompts)

    def single_turn(self, host: GRPOTrainer, *args: Any, **kwargs: Any) -> Any:
        return host._generate_single_turn(*args, **kwargs)

    def tool_turns(self, host: GRPOTrainer, *args: Any) -> Any:
        return host._tool_call_loop(*args)

    def rewards(self, host: GRPOTrainer, *arguments: Any) -> torch.Tensor:
        return host._calculate_rewards(*arguments)

    def log_extra(self, host: GRPOTrainer, column: str, values: list[Any]) -> None:
        host._log_completion_extra(column, values)

    def micro_batch(self, host: GRPOTrainer, generation_batch: Any) -> dict[str, Any]:
        return host._prepare_inputs(generation_batch)

    def loss(self, host: GRPOTrainer, model: Any, inputs: dict[str, Any]) -> torch.Tensor:
        return host._compute_loss(model, inputs)

    def forward(self, host: GRPOTrainer, model: Any, *args: Any, **kwargs: Any) -> Any:
        return host._get_per_token_logps_and_entropies(model, *args, **kwargs)

    def step_end(self, host: GRPOTrainer) -> None:
        """After an optimizer step."""

    def train_end(self) -> None:
        """After training."""

    def evaluate(self, host: GRPOTrainer, dataloader: Any, *args: Any, **kwargs: Any) -> EvalLoopOutput:
        return host.evaluation_loop(dataloader, *args, **kwargs)

    def log(self, host: GRPOTrainer, logs: dict[str, float], start_time: float | None) -> None:
        host.log(logs, start_time)

    def is_best(self, host: GRPOTrainer, metrics: dict[str, float], trial: Any) -> bool:
        return host._determine_best_metric(metrics, trial)

    def train(self, host: GRPOTrainer, checkpoint: str | bool | None, *args: Any, **kwargs: Any) -> Any:
        return host.train(checkpoint, *args, **kwargs)

    def epoch(self, host: GRPOTrainer, *args: Any, **kwargs: Any) -> None:
        host._run_epoch(*args, **kwargs)

    def save(self, host: GRPOTrainer, model: Any, trial: Any) -> None:
        host._save_checkpoint(model, trial)

    def save_state(self, host: GRPOTrainer) -> None:
        host.save_state()

    def load(self, host: GRPOTrainer, checkpoint: str | None) -> None:
        host._load_optimizer_and_scheduler(checkpoint)

    def model_card(self, host: GRPOTrainer, *args: Any, **kwargs: Any) -> None:
        host.create_model_card(*args, **kwargs)
