"""`mtgrpo import`: verl's files and settings become a task file, and what is left behind is said."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from desks import write_model

from trl_mtgrpo.commands.cli import main
from trl_mtgrpo.commands.reading import read_task_file
from trl_mtgrpo.commands.run_settings import settings_of
from trl_mtgrpo.commands.task_rows import load_task


SUMS = "data/train_sums.parquet"
LEVELS = {"easy": 1, "medium": 2}


def puzzle(family: str, level: str, split: str, i: int) -> dict[str, Any]:
    truth = {"numbers": f"{i},1", "target": i + 1} if family == "countdown" else {"target": f"name{i}"}
    return {
        "data_source": f"{family}-{level}-{split}",
        "prompt": [{"content": f"User: {family} {level} {split} {i}\nAssistant:", "role": "user"}],
        "ability": "math",
        "reward_model": {"style": "rule", "ground_truth": truth},
        "extra_info": {"difficulty": LEVELS[level], "index": i, "question": "q", "split": split, "type": family},
    }


def general(i: int, split: str) -> dict[str, Any]:
    return {
        "data_source": "open/sums",
        "prompt": [{"content": f"{split}: {i} + 1?", "role": "user"}],
        "ability": "math",
        "reward_model": {"style": "rule", "ground_truth": str(i + 1)},
        "extra_info": {"index": i, "split": split},
    }


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three data files of our own in `data`, with a test file each, and a tiny model."""
    (tmp_path / "data").mkdir()
    for family in ("countdown", "zebra"):
        for split, levels in (("train", ("easy", "medium")), ("test", ("easy", "medium"))):
            rows = [puzzle(family, level, split, i) for level in levels for i in range(12)]
            pq.write_table(pa.Table.from_pylist(rows), tmp_path / "data" / f"{split}_{family}.parquet")
    for split in ("train", "test"):
        rows = [general(i, split) for i in range(12)]
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / "data" / f"{split}_sums.parquet")
    write_model(tmp_path / "model")
    monkeypatch.chdir(tmp_path)
    return tmp_path


# As the release's script of its three-task experiment gives them, with data and model of our own.
SCRIPT = [
    "algorithm.adv_estimator=grpo",
    "data.train_files=[data/train_countdown.parquet,data/train_zebra.parquet]",
    "data.val_files=[data/test_countdown.parquet,data/test_zebra.parquet]",
    "trainer.sec.bandit.feature=[difficulty,type]",
    "data.train_batch_size=32",
    "data.val_batch_size=256",
    "data.max_prompt_length=1024",
    "data.max_response_length=4096",
    "actor_rollout_ref.model.path=model",
    "actor_rollout_ref.actor.optim.lr=1e-6",
    "actor_rollout_ref.actor.ppo_mini_batch_size=8",
    "actor_rollout_ref.actor.use_kl_loss=True",
    "actor_rollout_ref.actor.kl_loss_coef=0.000",
    "actor_rollout_ref.rollout.name=vllm",
    "actor_rollout_ref.rollout.temperature=1.0",
    "actor_rollout_ref.rollout.val_temperature=1.0",
    "actor_rollout_ref.rollout.n=72",
    "actor_rollout_ref.rollout.n_val=8",
    "actor_rollout_ref.actor.clip_ratio_high=0.28",
    "trainer.n_gpus_per_node=2",
    "trainer.nnodes=1",
    "trainer.save_freq=-1",
    "trainer.test_freq=10",
    "trainer.total_training_steps=720",
    "trainer.famo.enable=decay",
    "actor_rollout_ref.actor.famo.enable=True",
    "trainer.sec.strategy=bandit",
    "trainer.sec.enable=True",
    "trainer.sec.bandit.lr=0.025",
    "trainer.sec.bandit.gamma=1e-5",
    "trainer.sec.bandit.max_rate=False",
    "trainer.sec.bandit.ensure_famo_ratio=True",
    "trainer.sec.bandit.decay_type=soft_half_opt_conv_mask",
    "trainer.sec.bandit.bias_metric=batch_acc",
    "trainer.sec.bandit.batch_acc_decay_rate=0.5",
    "trainer.sec.bandit.update_object=task_diff_bias",
    "trainer.sec.bandit.lambda_bias=0.2",
    "trainer.sec.bandit.lambda_bias_type=add",
    "trainer.sec.bandit.groups_to_train=['2-countdown','2-zebra']",
    "trainer.rejection_sample=True",
    "trainer.rejection_sample_multiplier=3.0",
    "trainer.save_freq=180",
    "algorithm.filter_groups.max_num_gen_batches=10",
]


def imported(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[dict[str, Any], str]:
    assert main(["import", *arguments]) == 0
    shown = capsys.readouterr()
    return yaml.safe_load(shown.out), shown.err


def test_the_releases_settings_are_those_of_the_papers_recipe(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, _ = imported(capsys, *SCRIPT)
    recipe = yaml.safe_load((Path(__file__).parents[2] / "examples/recipes/paper_three_tasks.yaml").read_text())
    left_to_the_importer = {"model_name_or_path", "output_dir", "level", "vllm_gpu_memory_utilization", "epsilon"}
    left_to_the_importer |= {"weight_decay", "max_grad_norm", "per_device_eval_batch_size", "save_steps"}
    left_to_the_importer |= {"max_resampling_rounds"}  # the release counts the first round, the paper's text does not
    for name in recipe.keys() - left_to_the_importer:
        assert file["trainer"][name] == recipe[name], name
    assert file["trainer"]["save_steps"] == 180 * 4
    assert (file["processes"], file["max_prompt_tokens"]) == (2, 1024)


def test_the_named_groups_are_the_tasks_in_their_order(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, notes = imported(capsys, *SCRIPT)
    assert [task["name"] for task in file["tasks"]] == ["countdown-medium", "zebra-medium"]
    assert file["tasks"][0]["verl"] == {
        "data_source": "countdown-medium",
        "train": "data/train_countdown.parquet",
        "eval": "data/test_countdown.parquet",
    }
    assert "['countdown-easy', 'zebra-easy'], which are not trained" in notes


def test_every_setting_is_carried_over_or_named(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, notes = imported(capsys, *SCRIPT, "trainer.resume_mode=auto", "+trainer.new=1")
    assert "trainer.save_freq is given twice: 180 counts, and not -1" in notes
    assert "data.val_batch_size=256 is left behind" in notes
    assert "trainer.resume_mode=auto is left behind: no counterpart is known" in notes
    assert "trainer.new=1 is left behind" in notes
    assert "trainer.sec.bandit.decay_type=soft_half_opt_conv_mask is left behind: it moves no weight" in notes
    assert "optim.lr" not in notes


def test_an_imported_file_loads_and_builds_its_settings(folder: Path) -> None:
    assert main(["import", *SCRIPT, "--output", "runs.yaml"]) == 0
    file = read_task_file(Path("runs.yaml"))
    task = load_task(file, file.tasks[0])
    assert (len(task.train_dataset), len(task.eval_dataset)) == (12, 12)
    assert task.reward_funcs[0](completions=[r"\boxed{3 + 1}"], numbers=[[3, 1]], target=[4]) == [1.0]
    settings = settings_of(file, elsewhere=2)
    assert settings.generation_batch_size == 32 * 72
    assert (float(settings.oversampling), settings.max_resampling_rounds) == (3.0, 9)


def test_paths_are_written_from_the_files_folder(folder: Path) -> None:
    Path("files").mkdir()
    assert main(["import", *SCRIPT, "--output", "files/run.yaml"]) == 0
    file = read_task_file(Path("files/run.yaml"))
    assert file.tasks[0].source.train == "../data/train_countdown.parquet"
    assert len(load_task(file, file.tasks[1]).train_dataset) == 12


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"trainer.sec.bandit.preset_probs": "[0.5,0.5]"}, {"method": "dapo"}),
        ({"trainer.sec.bandit.preset_probs": "[0.5,0.5]", "trainer.rejection_sample": "False"}, {"method": "grpo"}),
        ({"trainer.famo.enable": "null", "trainer.sec.bandit.lr": "0.5"}, {"method": "sec_dapo", "sec_alpha": 0.5}),
        ({"trainer.sec.bandit.lambda_bias_type": "bias_only"}, {"task_weighting": "reward_only"}),
        ({"trainer.pure_acc_filter": "False"}, {"group_filter": "reward_variance"}),
        ({"trainer.sec.bandit.delta_threshold": "0.2"}, {"improvement_clip": 0.2}),
        ({"trainer.sec.bandit.efficient_sampling.enabled": "True"}, {"acceptance_aware": True}),
        ({"actor_rollout_ref.actor.kl_loss_coef": "0.01"}, {"beta": 0.01}),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, dict) else "",
)
def test_the_releases_other_scripts_become_their_method(
    folder: Path, capsys: pytest.CaptureFixture[str], changes: dict[str, str], expected: dict[str, Any]
) -> None:
    file, _ = imported(capsys, *SCRIPT, *(f"{key}={value}" for key, value in changes.items()))
    assert expected.items() <= file["trainer"].items()


def test_shares_of_a_script_are_the_tasks_weights_and_check_adds_them_up(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shares = "trainer.sec.bandit.preset_probs=[0.6,0.3]"
    assert main(["import", *SCRIPT, shares, "--output", "run.yaml"]) == 0
    capsys.readouterr()
    assert main(["check", "run.yaml", "--model", "model"]) == 1
    assert "must sum to 1 over the tasks, got 0.9 from {'countdown-medium': 0.6, 'zebra-medium': 0.3}" in (
        capsys.readouterr().out
    )


def test_other_data_needs_a_reward_and_is_trained_on_its_ground_truth(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = ["data/train_sums.parquet", "data.val_files=data/test_sums.parquet", "actor_rollout_ref.model.path=model"]
    assert main(["import", *files, "--output", "run.yaml"]) == 0
    assert "the reward of 'open/sums' is left behind: `exact_match` is written" in capsys.readouterr().err
    file = read_task_file(Path("run.yaml"))
    task = load_task(file, file.tasks[0])
    assert task.name == "open_sums"
    assert task.train_dataset[4]["answer"] == "5"
    assert task.is_conversational


def test_a_set_named_twice_and_a_group_without_rows_are_named(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    twice = "data.train_files=[data/train_countdown.parquet,data/train_countdown.parquet]"
    assert main(["import", *SCRIPT, twice, "--output", "run.yaml"]) == 0
    assert "no training row is of group '2-zebra'" in capsys.readouterr().err
    assert main(["check", "run.yaml", "--model", "model"]) == 1
    assert "`files` of task 'countdown-medium' must name each set once" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["data.train_batch_size=8"], r"`data.train_files` must name at least one parquet file, got none"),
        (["nothing.parquet"], r"must be parquet files with a column 'data_source', got 'nothing.parquet'"),
        (
            ["data/train_sums.parquet", "data.train_batch_size=7", "actor_rollout_ref.actor.ppo_mini_batch_size=2"],
            "7 groups",
        ),
        (
            ["data/train_sums.parquet", "--output", "no/folder/run.yaml"],
            r"`--output` must be a file that can be written",
        ),
    ],
)
def test_what_cannot_be_imported_is_a_message(
    folder: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], text: str
) -> None:
    assert main(["import", *arguments]) == 2
    assert text in capsys.readouterr().err
