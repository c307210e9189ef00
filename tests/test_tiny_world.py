"""Tests of the embedded default: compact puzzles, their verifiers, the tiny model and its warm start."""

import json
import string
import sys
from functools import cache
from itertools import permutations, product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st


torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
reasoning_gym = pytest.importorskip("reasoning_gym")
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "examples"))

from tiny_world import (  # noqa: E402
    TASKS,
    WORLDS,
    TinyTask,
    WarmTask,
    World,
    build_model,
    build_tokenizer,
    evaluate_tasks,
    task_scores,
    tiny_task_reward,
    tiny_task_rows,
    warm_start,
)
from tiny_world import countdown as countdown_module  # noqa: E402
from tiny_world import warm_starts as warm_starts_module  # noqa: E402
from tiny_world.countdown import Countdown  # noqa: E402
from tiny_world.evaluation import _sampled  # noqa: E402
from tiny_world.tasks import is_held_out, task_items  # noqa: E402
from tiny_world.zebra import Zebra  # noqa: E402


QUICK_TASKS = ("countdown", "arc_1d", "palindrome", "number_sorting")  # zebra items take 12 s
SMALL_WORLD = World("small", (WarmTask("palindrome", 4, 0.5), WarmTask("arc_1d", 2, 0.5)), 2, 1, 3)


@pytest.fixture(scope="session")
def cache_dir(tmp_path_factory):
    return tmp_path_factory.mktemp("tiny_world")


@pytest.fixture(scope="session")
def tokenizer():
    return build_tokenizer()


@cache
def puzzles_of(task):
    rng = np.random.default_rng(0)
    return [task.family.render(item, rng) for item in task.family.items(30)]


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS.keys())
def test_reasoning_gym_accepts_every_reference_answer(task):
    assert [task.family.score(puzzle.answer, puzzle.entry) for puzzle in puzzles_of(task)] == [1.0] * 30


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS.keys())
def test_wrong_answers_are_mostly_wrong_and_of_readable_form(task):
    rng = np.random.default_rng(1)
    puzzles = puzzles_of(task)
    answers = [task.family.wrong_answer(puzzle, rng) for puzzle in puzzles]
    scores = [task.family.score(answer, puzzle.entry) for answer, puzzle in zip(answers, puzzles, strict=True)]
    # A random zebra assignment of two people names the right person half of the time.
    assert np.mean(scores) < 0.8
    assert set("".join(answers)) <= set(string.ascii_letters + string.digits + "+-:,?")


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS.keys())
@pytest.mark.parametrize("completion", ["", " ", ":", "A", "1", "None", "0" * 500, "[", "\n"])
def test_malformed_completions_score_zero(task, completion):
    assert [task.family.score(completion, puzzle.entry) for puzzle in puzzles_of(task)[:5]] == [0.0] * 5


@pytest.mark.parametrize(
    "completion",
    [
        '__import__("os").system("true")',
        "9**9**9**9",
        "8**9-5",
        "8+9-5#",
        "8+9-5\n",
        "8+9-5 ",
        "(8+9)-5",
        "8+9-5" + "+0" * 20,
        "lambda:8+9-5",
        "８+9-5",  # noqa: RUF001
        "8+9-5;8",
        "8e9-5",
    ],
)
def test_hostile_countdown_answers_never_reach_the_scorer(completion, monkeypatch):
    def refuse(*arguments):
        pytest.fail(f"the scorer was called with {arguments}")

    monkeypatch.setattr(countdown_module, "accepts", refuse)
    family = Countdown(num_numbers=3, max_value=9, max_target=20)
    assert family.score(completion, {"numbers": [8, 9, 5], "target": 12}) == 0.0


def test_countdown_accepts_any_expression_that_reaches_the_target():
    family = Countdown(num_numbers=3, max_value=9, max_target=20)
    entry = {"numbers": [8, 9, 5], "target": 12}
    scores = [family.score(text, entry) for text in ("8+9-5", "-5+9+8", "9-5+8", "8+9+5", "8+4", "8-9+5")]
    assert scores == [1.0, 1.0, 1.0, 0.0, 0.0, 0.0]


def test_an_unsolvable_countdown_item_is_an_error():
    with pytest.raises(ValueError, match=r"`target` must be reachable with \+ and -, got 20 from \[1, 1\]"):
        Countdown(num_numbers=2, max_value=9, max_target=20).render({"numbers": [1, 1], "target": 20}, None)


def solve_zebra(prompt, num_people, num_attributes):
    """All arrangements, written like a completion, that satisfy the clues of a compact prompt."""
    clues = [prompt[1:-1][start : start + 3] for start in range(0, len(prompt) - 2, 3)]
    letters = [row[:num_people] for row in ("ABC", "xyz", "pqr")][:num_attributes]
    solutions = []
    for rows in product(*map(permutations, letters)):
        house = {letter: place for row in rows for place, letter in enumerate(row, 1)}
        holds = {
            "@": lambda a, b, house=house: house[a] == int(b),
            "=": lambda a, b, house=house: house[a] == house[b],
            "<": lambda a, b, house=house: house[b] - house[a] == 1,
            "-": lambda a, b, house=house: abs(house[b] - house[a]) == 1,
        }
        if all(holds[clue[1]](clue[0], clue[2]) for clue in clues):
            solutions.append("".join(map("".join, zip(*rows, strict=True))) + ":" + rows[0][0])
    return solutions


@pytest.mark.parametrize(("num_people", "num_characteristics"), [(3, 2), (2, 2), (2, 3)])
def test_a_compact_zebra_prompt_has_the_reference_answer_as_its_only_solution(num_people, num_characteristics):
    task = TinyTask("zebra", Zebra(num_people, num_characteristics), 0)
    for puzzle in puzzles_of(task):
        assert solve_zebra(puzzle.prompt, num_people, num_characteristics) == [puzzle.answer]


def test_zebra_items_are_the_items_of_the_reasoning_gym_dataset():
    dataset = reasoning_gym.create_dataset("zebra_puzzles", seed=0, size=20, num_people=3, num_characteristics=2)
    items = list(Zebra(3, 2).items(20))
    assert [item["answer"] for item in items] == [entry["answer"] for entry in dataset]
    assert all("Name of the person who lives in House 1" in entry["question"] for entry in dataset)


def test_zebra_letters_are_drawn_anew_on_every_use():
    family = Zebra(3, 2)
    item = next(family.items(1))
    rng = np.random.default_rng(0)
    puzzles = [family.render(item, rng) for _ in range(50)]
    assert len({puzzle.prompt for puzzle in puzzles}) > 10
    assert {family.score(puzzle.answer, puzzle.entry) for puzzle in puzzles} == {1.0}


@pytest.mark.parametrize("task_name", QUICK_TASKS)
@settings(max_examples=5, deadline=None)
@given(seeds=st.tuples(st.integers(0, 2**31), st.integers(0, 2**31)), size=st.integers(1, 300))
def test_train_and_test_prompts_are_disjoint_for_any_seeds_and_size(cache_dir, task_name, seeds, size):
    train = tiny_task_rows(task_name, "train", size, seeds[0], cache_dir)
    test = tiny_task_rows(task_name, "test", size, seeds[1], cache_dir)
    assert len(train) == len(test) == size
    assert not {row["prompt"] for row in train} & {row["prompt"] for row in test}
    assert not any(is_held_out(row["prompt"]) for row in train)


def test_test_prompts_are_distinct_while_enough_exist(cache_dir):
    rows = tiny_task_rows("arc_1d", "test", 500, 0, cache_dir)
    assert len({row["prompt"] for row in rows}) == 500


def test_rows_depend_on_the_seed_and_on_nothing_else(cache_dir):
    first, again, other = (tiny_task_rows("palindrome", "train", 50, seed, cache_dir) for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_rows_of_all_tasks_share_columns_of_text(cache_dir):
    rows = [tiny_task_rows(name, "train", 1, 0, cache_dir)[0] for name in QUICK_TASKS]
    assert {tuple(row) for row in rows} == {("prompt", "answer", "entry")}
    assert all(isinstance(value, str) for row in rows for value in row.values())


def test_items_are_generated_once_and_then_read_from_the_cache(tmp_path, monkeypatch):
    task = TinyTask("few", Countdown(num_numbers=2, max_value=9, max_target=18), 5)
    items = task_items(task, tmp_path)
    monkeypatch.setattr(Countdown, "items", lambda self, num_items: pytest.fail("generated twice"))
    assert task_items(task, tmp_path) == items


def test_the_reward_scores_each_completion_by_its_own_entry(cache_dir):
    rows = tiny_task_rows("number_sorting", "train", 4, 0, cache_dir)
    answers = [row["answer"] for row in rows]
    reward = tiny_task_reward("number_sorting")
    arguments = {"prompts": [row["prompt"] for row in rows], "entry": [row["entry"] for row in rows], "step": 3}
    assert reward(completions=answers, **arguments) == [1.0] * 4
    assert reward(completions=[answers[0], "1", "x", ""], **arguments) == [1.0, 0.0, 0.0, 0.0]
    assert reward.__name__ == "number_sorting_reward"


def test_an_unknown_task_is_an_error():
    with pytest.raises(ValueError, match=r"`task_name` must be one of .*'arc_1d'.*, got 'chess'"):
        tiny_task_reward("chess")


def test_an_unknown_split_is_an_error():
    with pytest.raises(ValueError, match='`split` must be "train" or "test", got \'dev\''):
        tiny_task_rows("arc_1d", "dev", 1, 0)


@pytest.mark.parametrize("world", WORLDS.values(), ids=WORLDS.keys())
def test_every_world_leaves_room_for_its_longest_answer(world):
    longest = max(len(puzzle.answer) for name in world.task_names for puzzle in puzzles_of(TASKS[name]))
    assert longest + 1 <= world.max_completion_length


@given(text=st.text(alphabet=st.characters(min_codepoint=32, max_codepoint=126)))
def test_the_tokenizer_gives_one_token_per_character_and_returns_the_text(tokenizer, text):
    token_ids = tokenizer(text)["input_ids"]
    assert len(token_ids) == len(text)
    assert tokenizer.decode(token_ids) == text


def test_the_tokenizer_pads_on_the_left(tokenizer):
    batch = tokenizer(["ab", "abcd"], padding=True)
    assert batch["attention_mask"] == [[0, 0, 1, 1], [1, 1, 1, 1]]


def test_the_model_is_tiny_and_fixed_by_its_seed():
    before = torch.get_rng_state()
    first, again, other = build_model(0), build_model(0), build_model(1)
    assert torch.equal(before, torch.get_rng_state())
    assert 0.55e6 < first.num_parameters() < 0.65e6
    assert torch.equal(first.model.embed_tokens.weight, again.model.embed_tokens.weight)
    assert not torch.equal(first.model.embed_tokens.weight, other.model.embed_tokens.weight)


def test_left_padding_does_not_change_the_prediction(tokenizer):
    model = build_model(0).eval()
    with torch.inference_mode():
        alone = model(**tokenizer("C1,2=3:", return_tensors="pt")).logits[0, -1]
        padded = tokenizer(["C1,2=3:", "a much longer prompt:"], return_tensors="pt", padding=True)
        beside = model(**padded).logits[0, -1]
    torch.testing.assert_close(alone, beside, atol=1e-4, rtol=1e-4)


class Oracle(torch.nn.Module):
    """Stands for a model that answers every second completion of a prompt rightly."""

    def __init__(self, tokenizer, answers):
        super().__init__()
        self.tokenizer, self.answers, self.device = tokenizer, answers, torch.device("cpu")
        self.config = build_model(0).config

    def forward(self, **inputs):
        """Reads a prompt, which the oracle need not."""

    def generate(self, input_ids, attention_mask, **settings):
        prompts = self.tokenizer.batch_decode(input_ids, skip_special_tokens=True)
        texts = [self.answers[prompt] if row % 2 else "?" for row, prompt in enumerate(prompts)]
        completions = self.tokenizer(texts, return_tensors="pt", padding=True, padding_side="right")["input_ids"]
        return torch.cat([input_ids, completions], dim=1)


def test_accuracy_is_the_share_of_right_completions(cache_dir, tokenizer):
    rows = {name: tiny_task_rows(name, "test", 20, 0, cache_dir) for name in ("countdown", "palindrome")}
    oracle = Oracle(tokenizer, {row["prompt"]: row["answer"] for task in rows.values() for row in task})
    assert evaluate_tasks(oracle, tokenizer, rows, samples=4) == {"countdown": 0.5, "palindrome": 0.5}


def test_scores_keep_the_order_of_the_rows(cache_dir, tokenizer):
    rows = tiny_task_rows("palindrome", "test", 20, 0, cache_dir)
    answers = {row["prompt"]: row["answer"] if index % 3 else "?" for index, row in enumerate(rows)}
    scores = task_scores(Oracle(tokenizer, answers), tokenizer, {"palindrome": rows}, samples=2, batch_size=6)
    np.testing.assert_array_equal(scores["palindrome"][:, 1], [float(bool(index % 3)) for index in range(20)])


def test_evaluation_repeats_itself_and_leaves_the_random_state_and_the_mode(cache_dir, tokenizer):
    model = build_model(0).train()
    rows = {"palindrome": tiny_task_rows("palindrome", "test", 8, 0, cache_dir)}
    before = torch.get_rng_state()
    scores = [task_scores(model, tokenizer, rows, seed=3)["palindrome"] for _ in range(2)]
    np.testing.assert_array_equal(*scores)
    assert torch.equal(before, torch.get_rng_state())
    assert model.training


def test_prompts_that_are_read_once_are_answered_as_if_read_for_every_sample(tokenizer):
    model = build_model(0).eval()
    inputs = tokenizer(["C1,2=3:", "a much longer prompt:"], return_tensors="pt", padding=True)
    read = (inputs["input_ids"], inputs["attention_mask"])
    with torch.inference_mode():
        torch.manual_seed(0)
        once = _sampled(model, *read, 3, 6, {"do_sample": True, "top_k": 0})
        torch.manual_seed(0)
        repeated = {name: values.repeat_interleave(3, 0) for name, values in inputs.items()}
        every = model.generate(**repeated, max_new_tokens=6, do_sample=True, top_k=0)
    assert len(set(map(tuple, once.tolist()))) > 2
    assert torch.equal(once, every[:, inputs["input_ids"].shape[1] :])


def test_evaluation_needs_a_sample(tokenizer):
    with pytest.raises(ValueError, match="`samples` must be at least 1, got 0"):
        evaluate_tasks(None, tokenizer, {}, samples=0)


def test_the_rl_trainer_of_trl_takes_the_rows_the_reward_and_the_model(cache_dir, tokenizer, tmp_path):
    trl = pytest.importorskip("trl")
    datasets = pytest.importorskip("datasets")
    settings = {"use_cpu": True, "bf16": False, "report_to": "none", "save_strategy": "no", "disable_tqdm": True}
    trainer = trl.GRPOTrainer(
        model=build_model(0),
        reward_funcs=tiny_task_reward("palindrome"),
        args=trl.GRPOConfig(
            output_dir=str(tmp_path),
            per_device_train_batch_size=4,
            num_generations=2,
            max_completion_length=3,
            max_steps=1,
            **settings,
        ),
        train_dataset=datasets.Dataset.from_list(tiny_task_rows("palindrome", "train", 8, 0, cache_dir)),
        processing_class=tokenizer,
    )
    trainer.train()
    assert trainer.state.global_step == 1


@pytest.fixture(scope="session")
def warm_folder(cache_dir):
    return warm_start(SMALL_WORLD, seed=0, cache_dir=cache_dir, progress=False)


def test_a_warm_start_is_trained_once_and_then_found(cache_dir, warm_folder):
    changed = warm_folder.stat().st_mtime_ns
    assert warm_start(SMALL_WORLD, seed=0, cache_dir=cache_dir, progress=False) == warm_folder
    assert warm_folder.stat().st_mtime_ns == changed
    assert [path.name for path in warm_folder.parent.iterdir() if path.name.startswith(".")] == []


def test_a_warm_start_is_fixed_by_its_seed(tmp_path, cache_dir, warm_folder):
    from transformers import AutoModelForCausalLM

    again = warm_start(SMALL_WORLD, seed=0, cache_dir=tmp_path, progress=False)
    other = warm_start(SMALL_WORLD, seed=1, cache_dir=cache_dir, progress=False)
    first, second, third = (
        AutoModelForCausalLM.from_pretrained(folder).state_dict() for folder in (warm_folder, again, other)
    )
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["lm_head.weight"], third["lm_head.weight"])


def test_a_warm_start_reports_its_strength_per_task(warm_folder):
    report = json.loads((warm_folder / "warm_start.json").read_text())
    for phase in ("after_clean", "at_start"):
        assert set(report[phase]) == {"sampled", "greedy", "mixed_groups"}
        assert set(report[phase]["sampled"]) == {"palindrome", "arc_1d"}


def test_another_recipe_gets_another_folder(cache_dir, warm_folder):
    longer = World("small", SMALL_WORLD.tasks, 1, 1, 3)
    assert warm_start(longer, seed=0, cache_dir=cache_dir, progress=False) != warm_folder


def test_an_interrupted_warm_start_leaves_nothing_behind(cache_dir, warm_folder, monkeypatch):
    def interrupt(*arguments, **settings):
        raise KeyboardInterrupt

    before = set(warm_folder.parent.iterdir())
    monkeypatch.setattr(warm_starts_module, "evaluate_tasks", interrupt)
    with pytest.raises(KeyboardInterrupt):
        warm_start(SMALL_WORLD, seed=2, cache_dir=cache_dir, progress=False)
    assert set(warm_folder.parent.iterdir()) == before
