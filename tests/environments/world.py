"""A tokenizer with whole tool calls as tokens, so that an untrained model calls tools often, and things to call."""

from typing import Any

import torch
from datasets import Dataset
from tokenizers import AddedToken
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

from tests.tiny import tiny_config, tiny_tokenizer
from trl_mtgrpo import MultiTaskGRPOTrainer, Task


CALLS = (
    *(f"<call>guess n={n}</call>" for n in range(1, 5)),
    *("<call>add a=1 b=2</call>", "<call>mul a=2 b=3</call>", "<call>step n=1</call>", "<call>step n=2</call>"),
    "<call>fail</call>",
)
TEMPLATE = """
{%- for tool in tools or [] %}{{ tool.function.name }};{% endfor %}
{%- for message in messages %}
{%- if message.role == 'user' %}U{{ message.content }}
{%- elif message.role == 'tool' %}R{{ message.content }}
{%- else %}A{{ message.content }}
{%- for call in message.tool_calls or [] %}<call>{{ call.function.name }}
{%- for key, value in call.function.arguments.items() %} {{ key }}={{ value }}{% endfor %}</call>{% endfor %}<eos>
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}A{% endif %}"""
RESPONSES = {
    "defaults": {"role": "assistant"},
    "start_anchor": "A",
    "fields": {
        "tool_calls": {
            "open_pattern": r"<call>(?P<name>\w+)",
            "close_pattern": r"</call>",
            "repeats": True,
            "content": "xml-inline",
            "content_args": {
                "tag_pattern": r"(?P<key>\w+)=(?P<value>\w+)",
                "value_parser": {"name": "json", "args": {"allow_non_json": True}},
            },
            "transform": {"type": "function", "function": {"name": "{name}", "arguments": "{content}"}},
        },
        "content": {"close_pattern": r"<eos>", "content": "text"},
    },
}


def tool_tokenizer(parses: bool = True) -> PreTrainedTokenizerFast:
    tokenizer = tiny_tokenizer()
    tokenizer.add_tokens([AddedToken(call, special=False, normalized=False) for call in CALLS])
    tokenizer.chat_template = TEMPLATE
    if parses:
        tokenizer.response_template = RESPONSES
    return tokenizer


def tool_model(seed: int = 0) -> Qwen2ForCausalLM:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return Qwen2ForCausalLM(
            Qwen2Config(
                vocab_size=98 + len(CALLS),
                hidden_size=32,
                intermediate_size=64,
                num_hidden_layers=2,
                num_attention_heads=2,
                num_key_value_heads=2,
                max_position_embeddings=512,
                pad_token_id=0,
                bos_token_id=1,
                eos_token_id=1,
            )
        )


def common_tokens() -> list[int]:
    """What the model may write: the end, digits, a few letters and calls."""
    tokenizer = tool_tokenizer()
    return [1, *tokenizer.convert_tokens_to_ids(list("0123456789abc")), *range(98, 98 + len(CALLS))]


SUPPRESSED = sorted(set(range(98 + len(CALLS))) - set(common_tokens()))


class OpenGuess:
    """A number is to be found."""

    made = 0
    resets = 0
    closed = 0

    def __init__(self) -> None:
        type(self).made += 1

    def reset(self, number: int, **row: Any) -> str:
        type(self).resets += 1
        self.number, self.found, self.tries = number, False, 0
        return f"?{number % 2}"

    def guess(self, n: int) -> str:
        """
        Guesses.

        Args:
            n: The number.
        """
        self.tries += 1
        self.found |= n == self.number
        return "yes" if n == self.number else "more" if n < self.number else "less"

    def fail(self) -> str:
        """Fails."""
        raise RuntimeError("down")

    def get_reward(self) -> float:
        return float(self.found)


class Guess(OpenGuess):
    """The same, to be closed."""

    def close(self) -> None:
        type(self).closed += 1


class Count:
    """A goal is to be reached in steps, and the environment makes its own goals."""

    def reset(self, seed: int) -> str:
        self.goal, self.at = 1 + seed % 3, 0
        return f"{self.goal}!"

    async def step(self, n: int) -> int:
        """
        Goes on.

        Args:
            n: How far.
        """
        self.at += n
        return self.at

    def get_reward(self) -> float:
        return float(self.at == self.goal)


def add(a: int, b: int) -> int:
    """
    Adds.

    Args:
        a: One.
        b: Other.
    """
    return a + b


def mul(a: int, b: int) -> int:
    """
    Multiplies.

    Args:
        a: One.
        b: Other.
    """
    return a * b


def written(completion: list[dict[str, Any]]) -> str:
    return "".join(message.get("content") or "" for message in completion if message["role"] == "assistant")


def answered(completions: list[Any], **kwargs: Any) -> list[float]:
    """How often a tool gave 3 or 6."""
    return [float(any(m["role"] == "tool" and m["content"] in "36" for m in c)) for c in completions]


def has_a_letter(completions: list[Any], **kwargs: Any) -> list[float]:
    return [float(any(letter in written(c) for letter in "abc")) for c in completions]


def in_few_tries(environments: list[Any], **kwargs: Any) -> list[float]:
    return [1.0 / (1 + environment.tries) for environment in environments]


def chat_rows(letter: str, size: int = 24, **columns: Any) -> Dataset:
    return Dataset.from_dict(
        {"prompt": [[{"role": "user", "content": f"{letter}{i}"}] for i in range(size)], **columns}
    )


def guess_rows(size: int = 24) -> Dataset:
    return chat_rows("g", size, number=[1 + i % 4 for i in range(size)])


def guess_task(**options: Any) -> Task:
    return Task("guess", guess_rows(), **({"environment_factory": Guess, "success_threshold": 1.0} | options))


def four_tasks(**options: Any) -> list[Task]:
    """A plain task, one with tools, and two environments of which one owns its data."""
    return [
        Task("plain", chat_rows("p"), has_a_letter, success_threshold=1.0),
        Task("sum", chat_rows("s"), answered, tools=[mul, add], success_threshold=1.0),
        guess_task(**options),
        Task("count", None, environment_factory=Count, num_rows=12, success_threshold=1.0),
    ]


SETTINGS: dict[str, Any] = {
    "max_completion_length": 40,
    "generation_kwargs": {"suppress_tokens": SUPPRESSED},
    "max_tool_calling_iterations": 3,
}


def agent_trainer(folder: Any, tasks: list[Task] | None, **changes: Any) -> MultiTaskGRPOTrainer:
    own = ("weighting", "rollout_source", "reward_funcs", "train_dataset", "environment_factory", "tools")
    options = {name: changes.pop(name) for name in own if name in changes}
    tokenizer, model = changes.pop("tokenizer", None), changes.pop("model", None)
    return MultiTaskGRPOTrainer(
        model=model or tool_model(),
        tasks=tasks,
        args=tiny_config(folder, **(SETTINGS | changes)),
        processing_class=tokenizer or tool_tokenizer(),
        **options,
    )
