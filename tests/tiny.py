"""A model, a tokenizer and tasks small enough that the real trainer takes a step in milliseconds."""

from typing import Any

import torch
from datasets import Dataset
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

from trl_mtgrpo import MultiTaskGRPOConfig, MultiTaskGRPOTrainer, Task


CHAT_TEMPLATE = "{% for message in messages %}{{ message['content'] }}{% endfor %}"


def tiny_tokenizer(chat: bool = False) -> PreTrainedTokenizerFast:
    """One token per printable ASCII character."""
    alphabet = ["<pad>", "<eos>", "<unk>", *(chr(code) for code in range(32, 127))]
    tokenizer = Tokenizer(models.WordLevel({token: i for i, token in enumerate(alphabet)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer.decoder = decoders.Fuse()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>", padding_side="left"
    )
    if chat:
        fast.chat_template = CHAT_TEMPLATE
    return fast


def tiny_model(seed: int = 0) -> Qwen2ForCausalLM:
    """A randomly initialised decoder of about 20,000 parameters."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return Qwen2ForCausalLM(
            Qwen2Config(
                vocab_size=98,
                hidden_size=32,
                intermediate_size=64,
                num_hidden_layers=2,
                num_attention_heads=2,
                num_key_value_heads=2,
                max_position_embeddings=128,
                pad_token_id=0,
                bos_token_id=1,
                eos_token_id=1,
            )
        )


def text_of(completion: Any) -> str:
    return completion if isinstance(completion, str) else completion[0]["content"]


def contains_lower(completions: list[Any], **kwargs: Any) -> list[float]:
    """Right for most random completions."""
    return [float(any(c.islower() for c in text_of(completion))) for completion in completions]


def contains_digit(completions: list[Any], **kwargs: Any) -> list[float]:
    """Right for about half of random completions."""
    return [float(any(c.isdigit() for c in text_of(completion))) for completion in completions]


def contains_a(completions: list[Any], **kwargs: Any) -> list[float]:
    """Right for few random completions."""
    return [float("a" in text_of(completion)) for completion in completions]


def rows(letter: str, size: int = 30, chat: bool = False, **columns: Any) -> Dataset:
    prompts: list[Any] = [f"{letter}{i}" for i in range(size)]
    if chat:
        prompts = [[{"role": "user", "content": prompt}] for prompt in prompts]
    return Dataset.from_dict({"prompt": prompts, **columns})


def three_tasks(with_eval: bool = False, chat: bool = False) -> list[Task]:
    """Tasks of strongly different difficulty."""
    functions = {"easy": contains_lower, "medium": contains_digit, "hard": contains_a}
    return [
        Task(
            name,
            rows(name[0], chat=chat),
            function,
            eval_dataset=rows(name[0], size=6, chat=chat) if with_eval else None,
            success_threshold=1.0,
        )
        for name, function in functions.items()
    ]


def tiny_config(output_dir: Any, **changes: Any) -> MultiTaskGRPOConfig:
    """Four groups of four rollouts per step on the CPU, nothing saved."""
    settings: dict[str, Any] = {
        "use_cpu": True,
        "bf16": False,
        "per_device_train_batch_size": 16,
        "per_device_eval_batch_size": 8,
        "num_generations": 4,
        "max_completion_length": 6,
        "max_steps": 3,
        "logging_steps": 1,
        "learning_rate": 1e-2,
        "report_to": "none",
        "save_strategy": "no",
        "disable_tqdm": True,
        "task_table": False,
    }
    return MultiTaskGRPOConfig(output_dir=str(output_dir), **(settings | changes))


def tiny_trainer(output_dir: Any, tasks: list[Task] | None = None, **changes: Any) -> MultiTaskGRPOTrainer:
    """The real trainer on tiny tasks; arguments of the trainer and fields of its config by keyword."""
    own = {"weighting", "sampler", "group_filter", "guard", "baseline_accuracy", "callbacks", "prompt_source"}
    own |= {"rollout_source"}
    options = {name: changes.pop(name) for name in own & changes.keys()}
    return MultiTaskGRPOTrainer(
        model=changes.pop("model", None) or tiny_model(),
        tasks=three_tasks() if tasks is None else tasks,
        args=tiny_config(output_dir, **changes),
        processing_class=tiny_tokenizer(),
        **options,
    )
