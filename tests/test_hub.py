"""The model card, and pushing it with the model to a stand-in for the Hub through the real client."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hub_stand_in import HubStandIn, hub_stand_in
from tiny import three_tasks, tiny_config, tiny_model, tiny_tokenizer

from trl_mtgrpo import MultiTaskGRPOConfig, MultiTaskGRPOTrainer
from trl_mtgrpo.host.settings import resolve
from trl_mtgrpo.report.model_card import extend_model_card, multi_task_section


TESTS = Path(__file__).parent


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> HubStandIn:
    """The stand-in after `push_run.py`."""
    output = tmp_path_factory.mktemp("hub") / "weak-and-strong"
    with hub_stand_in() as hub:
        environment = {key: value for key, value in os.environ.items() if key != "HF_HUB_OFFLINE"} | {
            "HF_ENDPOINT": hub.url,
            "HF_TOKEN": "hf_of_nobody",
            "HF_HOME": str(output.parent / "home"),
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "PYTHONPATH": os.pathsep.join([str(TESTS.parent), str(TESTS)]),
        }
        run = subprocess.run(
            [sys.executable, str(TESTS / "push_run.py"), str(output)],
            env=environment,
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        assert run.returncode == 0, run.stderr[-3000:]
        yield hub


def test_the_repository_is_made_and_pushed_to_during_and_after_training(hub: HubStandIn) -> None:
    assert hub.repositories[0] == "someone/weak-and-strong"
    assert {"Training in progress, step 2", "Training in progress, step 4", "End of training"} <= set(hub.commits)
    assert hub.unknown == []


def test_model_tokenizer_and_card_arrive(hub: HubStandIn) -> None:
    assert {"config.json", "model.safetensors", "tokenizer.json", "README.md"} <= set(hub.files)


def test_the_card_that_arrives_tells_of_the_tasks(hub: HubStandIn) -> None:
    card = hub.files["README.md"].decode()
    front, _, text = card.removeprefix("---\n").partition("\n---\n")
    assert "- trl_mtgrpo" in front
    assert "2602.05547" in text
    assert "@article{ramesh2026multitask" in text
    assert text.count("| easy |") == text.count("| medium |") == text.count("| hard |") == 1
    assert "Accuracy before is that of step 0, after that of step 4." in text
    assert "push_run.py" in text
    assert text.index("## Multi-task training") < text.index("### Framework versions")


def settings(**changes: Any) -> dict[str, Any]:
    return resolve(MultiTaskGRPOConfig("out", use_cpu=True, bf16=False, **changes)).described()


def test_the_table_compares_the_first_evaluation_with_the_last() -> None:
    log = [
        {"step": 0, "eval_tasks/a/accuracy": 0.1, "eval_worst_task_accuracy": 0.1, "eval_average_accuracy": 0.3},
        {"step": 5, "loss": 1.0},
        {"step": 9, "eval_tasks/a/accuracy": 0.45, "eval_worst_task_accuracy": 0.45, "eval_average_accuracy": 0.5},
    ]
    section = multi_task_section(settings(), {"a": 0.75, "b": 0.25}, log)
    assert "| a | 0.750 | 10.0% | 45.0% |" in section
    assert "| b | 0.250 | not measured | not measured |" in section
    assert "| **worst task** | | 10.0% | 45.0% |" in section


@pytest.mark.parametrize("method", ["mt_grpo", "grpo", "dapo", "sec_grpo", "sec_dapo"])
def test_every_method_is_explained(method: str) -> None:
    assert f"method `{method}`: " in multi_task_section(settings(method=method), {"a": 1.0}, [])


def test_the_card_names_what_a_changed_method_ran() -> None:
    changed = MultiTaskGRPOConfig("out", use_cpu=True, bf16=False)
    changed.method = "dapo"
    section = multi_task_section(resolve(changed).described(), {"a": 1.0}, [])
    assert "method `dapo`" in section
    assert "`task_weighting=fixed`" in section
    assert "`preserve_task_ratio=False`" in section
    assert "tradeoff" not in section


def test_a_run_without_evaluation_says_so() -> None:
    assert "The run was not evaluated." in multi_task_section(settings(), {"a": 1.0}, [])


@pytest.mark.parametrize(
    ("argv", "shown"),
    [
        (["/somewhere/train.py", "--seed", "3"], "train.py --seed 3"),
        (["train.py", "--hub_token", "hf_abc", "--seed", "3"], "train.py --hub_token ... --seed 3"),
        (["train.py", "--api-key=abc"], "train.py --api-key=..."),
        (
            ["/kernels/ipykernel_launcher.py", "-f", "connection.json"],
            "Started from a notebook or an interactive session.",
        ),
    ],
)
def test_the_command_is_shown_without_folders_and_secrets(
    argv: list[str], shown: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", argv)
    section = multi_task_section(settings(), {"a": 1.0}, [])
    assert f"\n{shown}\n" in section
    assert "abc" not in section


def test_a_card_of_another_form_gets_the_section_at_its_end(tmp_path: Path) -> None:
    card = tmp_path / "README.md"
    card.write_text("# A model\n", encoding="utf-8")
    extend_model_card(card, "## Tasks")
    assert card.read_text(encoding="utf-8") == "# A model\n\n## Tasks\n"


def test_writing_the_card_twice_leaves_one_section(tmp_path: Path) -> None:
    trainer = MultiTaskGRPOTrainer(
        model=tiny_model(), processing_class=tiny_tokenizer(), tasks=three_tasks(), args=tiny_config(tmp_path)
    )
    trainer.create_model_card()
    trainer.create_model_card(model_name="again", tags="mine")
    card = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert card.count("## Multi-task training") == 1
    assert "- mine" in card
