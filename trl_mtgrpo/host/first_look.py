"""A look at each environment before training: what the model is told in the first row, and that a reset repeats."""

import logging
from typing import Any, NamedTuple

from ..tasks import TaskMixture


logger = logging.getLogger(__name__)


class FirstLook(NamedTuple):
    """
    What the first row of a task with tools looks like.

    Args:
        task (`str`):
            Name of the task.
        prompt (`str`):
            What the model reads, tools included.
        repeats (`bool`):
            Whether a second reset with the same row gave the same observation.
    """

    task: str
    prompt: str
    repeats: bool


def look_at_environments(trainer: Any, mixture: TaskMixture) -> list[FirstLook]:
    """
    Resets one environment of each task twice with its first row, and says what came of it.

    Args:
        trainer ([`~trl.GRPOTrainer`]):
            The trainer.
        mixture ([`TaskMixture`]):
            The tasks.

    Returns:
        `list[FirstLook]`: one per task with tools or an environment. A `reset` that raises is recorded and stops the
        run at the first generation, on every rank together.
    """
    looks = []
    for task_id, task in enumerate(mixture.tasks):
        if not task.is_agentic:
            continue
        row = mixture.host_rows([mixture.row(task_id, 0)])[0]
        environment = trainer._environment_pool[task.name][0]
        given = {name: value for name, value in row.items() if name != "environment"}
        observations = [environment.reset(**given) for _ in range(2)]
        prompt = _text(trainer, task.name, _with(row["prompt"], observations[0]))
        looks.append(FirstLook(task.name, prompt, observations[0] == observations[1]))
        logger.info("Task %r begins with:\n%s", task.name, prompt)
        if observations[0] != observations[1]:
            logger.warning(
                "`reset` of task %r gave two observations for one row: %r and %r. Rollouts of a prompt then meet "
                "different problems, and a resumed run others than before. Draw randomness from a seed in the row.",
                task.name,
                str(observations[0])[:80],
                str(observations[1])[:80],
            )
    return looks


def _with(prompt: list[dict[str, Any]], observation: Any) -> list[dict[str, Any]]:
    """A prompt with an observation, as the host adds it."""
    content = prompt[-1]["content"]
    if observation is None:
        return prompt
    if isinstance(observation, list) and isinstance(content, str):
        content = [{"type": "text", "text": content}]
    if isinstance(observation, str) and isinstance(content, list):
        observation = [{"type": "text", "text": observation}]
    return [*prompt[:-1], {**prompt[-1], "content": content + observation}]


def _text(trainer: Any, name: str, prompt: list[dict[str, Any]]) -> str:
    shown: str = trainer.processing_class.apply_chat_template(
        prompt,
        tools=trainer._env_tools[name] or None,
        chat_template=trainer.chat_template,
        add_generation_prompt=True,
        tokenize=False,
        **trainer.chat_template_kwargs,
    )
    return shown
