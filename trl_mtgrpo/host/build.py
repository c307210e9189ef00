"""From settings, tasks and a built host to the run that decides its hooks."""

import logging
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..improvement.loss_inputs import ClipRange
from ..improvement.weight_updates import WeightUpdater
from ..report.display import TaskTableCallback
from ..report.host_output import quieten
from ..report.reporting import RunReporter
from ..report.run_card import RunCardCallback
from ..report.screen import Screen
from ..rollouts import BatchLoop, CountedPrompts, Judge, PromptSource, RememberedPrompts, RolloutSource, RowStore
from ..rollouts.pilot import PilotRule
from ..sampling import StallDoctor
from ..state.codec import check_state
from ..state.resuming import resume_exceptions
from ..state.run_state import start_state
from ..tasks import TaskMixture
from ..tasks.fingerprint import fingerprint, function_names
from ..tasks.names import check_baseline
from .agent_checks import check_sight, check_template
from .agents import Agents
from .collecting import HostRollouts, Scorer
from .contract import check_image_host, check_program_host
from .distributed import Ranks
from .logs import ExtraColumns
from .method import build_guard, build_sampler, build_weighting, surplus_age
from .programs import HostPrograms
from .run import MixtureRun
from .run_plan import Parts, RunPlan
from .saving import Checkpoints
from .settings import Settings
from .sight import Sight
from .task_sampler import TaskAwareSampler
from .turns import Turns


logger = logging.getLogger(__name__)


def build_run(trainer: Any, plan: RunPlan, parts: Parts) -> MixtureRun:
    """
    Assembles a run of tasks.

    Args:
        trainer ([`MultiTaskGRPOTrainer`]):
            The trainer, after the host's constructor.
        plan ([`RunPlan`]):
            What is run.
        parts ([`Parts`]):
            Parts of the user's own.

    Returns:
        [`MixtureRun`]
    """
    settings, mixture, args = plan.settings, plan.mixture, trainer.args
    assert mixture is not None
    if plan.host_arguments.get("rollout_func") is None:
        check_template(mixture.tasks, trainer.processing_class)
    if mixture.images.any:
        check_image_host()
        check_sight(mixture, trainer)
    generations = trainer.num_generations
    num_groups = args.generation_batch_size // generations
    ranks, store, columns = Ranks(trainer.accelerator), RowStore(), ExtraColumns(mixture.names, mixture.images.any)
    trainer.epsilon_high = settings.epsilon_high
    trainer.reward_weights = trainer.reward_weights.new_tensor(mixture.weights)
    mixture.wrap_models(trainer.reward_funcs)
    columns.attach(trainer)
    sizes = mixture.num_rows().tolist()
    clock = TaskAwareSampler(
        sizes,
        num_groups=num_groups,
        num_generations=generations,
        repeats=args.steps_per_generation * trainer.num_iterations,
        seed=args.seed,
        shuffle=trainer.shuffle_dataset,
    )
    prompts: PromptSource = CountedPrompts()
    if not plan.trains_host_rows:
        skips = settings.prompt_memory == "solved"
        prompts = RememberedPrompts(sizes, args.seed, trainer.shuffle_dataset, skips)
    multiple = ranks.size // math.gcd(ranks.size, settings.pilot_generations or generations)
    pilots = build_pilots(settings, mixture)
    sampler = parts.sampler or build_sampler(settings, num_groups, multiple)
    screen = Screen() if settings.task_table and trainer.accelerator.is_main_process else None
    reporter = RunReporter(
        mixture.names,
        mixture.num_rows(),
        settings.filters_groups,
        settings.max_empty_steps,
        screen,
        skips=settings.prompt_memory == "solved",
        speaks=trainer.accelerator.is_main_process,
    )
    agents = None if mixture.environments is None else Agents(trainer, mixture, ranks)
    judge = build_judge(settings, mixture, args, parts)
    scorer = Scorer(
        mixture,
        ranks,
        reporter,
        # Releases before 1.16 know one end alone.
        ends=frozenset(
            [
                *getattr(trainer, "eos_token_ids", [trainer._tokenizer.eos_token_id]),
                trainer._tokenizer.pad_token_id,
            ]
        ),
        masks_truncated=trainer.mask_truncated_completions,
        **({} if agents is None else {"activity": agents.activity}),  # type: ignore[arg-type]
    )
    rollouts = HostRollouts(
        mixture,
        ranks,
        scorer,
        judge,
        store,
        columns,
        # A whole round in one call is best for vLLM; `generate` holds its whole batch in memory, and every row of an
        # environment one that is open.
        groups_per_call=2**31 if trainer.use_vllm and agents is None else num_groups,
        groups_of_task=_most_groups(mixture, generations),
        multiple=multiple,
        pilots=pilots,
    )
    turns = Turns(trainer, mixture, ranks, plan.parses_responses)
    programs = build_programs(trainer, settings, rollouts, turns, agents)
    updater = WeightUpdater(
        weighting=parts.weighting or build_weighting(settings, mixture.names),
        # A strategy of the user's own is bounded only by a guard of the user's own.
        guard=parts.guard or (None if parts.weighting else build_guard(settings, mixture.num_tasks)),
        num_tasks=mixture.num_tasks,
        num_generations=generations,
        rows_per_call=args.per_device_train_batch_size,
        by=settings.task_weight_update,
        source=settings.improvement_source,
        reduction=settings.improvement_reduction,
    )
    # The host's loader has its own order, which may grow as any TRL run's may.
    known = not plan.trains_host_rows
    start = start_state(
        mixture.names,
        updater.weighting,
        tuple(sizes) if known else (),
        tuple(fingerprint(task.train_dataset) for task in mixture.tasks) if known else (),
        tuple(function_names(task) for task in mixture.tasks),
    )
    if args.save_strategy != "no":
        check_state(start.weighting, "weighting")
        for exception in resume_exceptions(args):
            logger.warning(exception)
    run = MixtureRun(
        settings=settings,
        mixture=mixture,
        ranks=ranks,
        loop=BatchLoop(
            sampler=sampler,
            prompts=parts.prompt_source or prompts,
            num_generations=generations,
            num_groups=num_groups,
            doctor=StallDoctor.for_batch(num_groups) if settings.filters_groups else None,
            solved_discount=settings.solved_discount,
            max_surplus_age=surplus_age(sampler),
            # Before a task was generated its groups are taken to be as long as they can be.
            unknown_tokens=generations * trainer.max_completion_length,
            seed=args.seed,
            pilots=pilots,
            balances=programs.tasks.has_program if programs and settings.module_balance == "equal" else None,
            bundle_limits=programs.limits(sampler if settings.filters_groups else None) if programs else None,
        ),
        rollouts=rollouts,
        programs=programs,
        source=rollouts if parts.rollout_source is None else checked_source(parts.rollout_source(rollouts)),
        store=store,
        scorer=scorer,
        updater=updater,
        reporter=reporter,
        clip=ClipRange(trainer.epsilon_low, trainer.epsilon_high, args.delta, trainer.importance_sampling_level),
        columns=columns,
        sampler=None if plan.trains_host_rows else clock,
        state=start,
        checkpoints=Checkpoints(
            args,
            start,
            ranks,
            store,
            generations,
            mixture.scoring.num_parts,
            settings.allow_task_changes,
            plan.trains_host_rows,
        ),
        baseline_accuracy=check_baseline(parts.baseline_accuracy, mixture.names),
        turns=turns,
        sight=Sight(trainer, mixture, ranks),
        agents=agents,
    )
    rollouts.probing = run.probing
    run.attach(trainer)
    trainer.add_callback(RunCardCallback(mixture.names, settings.described()))
    if settings.task_table:
        table = TaskTableCallback(mixture.names)
        trainer.add_callback(table)
        quieten(trainer.callback_handler.callbacks, table.shows)
    return run


def checked_source(source: Any) -> RolloutSource:
    """What a user's `rollout_source` returned, if rollouts can be asked of it."""
    if not callable(getattr(source, "produce", None)):
        raise TypeError(
            f"`rollout_source` must return an object with the method `produce`, got {source!r:.80}. Return the source "
            "that it gets, or one around it."
        )
    return source  # type: ignore[no-any-return]


def build_programs(
    trainer: Any, settings: Settings, rollouts: HostRollouts, turns: Turns, agents: Agents | None
) -> HostPrograms | None:
    """What makes the rollouts of tasks with a program; `None` where no task has one."""
    mixture = rollouts.mixture
    if all(task.program is None for task in mixture.tasks):
        return None
    check_program_host()
    rollouts.programs = HostPrograms(
        trainer,
        mixture,
        rollouts.ranks,
        rollouts.scorer,
        rollouts.judge,
        rollouts.store,
        rollouts.columns,
        turns,
        agents,
        all_rollouts=settings.group_baseline == "rollouts",
        max_calls=settings.max_program_calls,
        timeout=settings.program_timeout,
    )
    return rollouts.programs


def build_judge(settings: Settings, mixture: TaskMixture, args: Any, parts: Parts) -> Judge:
    """The rule that says which groups may train."""
    return Judge(
        part_weights=mixture.scoring.part_weights,
        has_outcome=mixture.scoring.has_outcome,
        strict=settings.group_filter == "mixed_correctness",
        keeps_all=not settings.filters_groups,
        aggregation=args.multi_objective_aggregation,
        scale_rewards=args.scale_rewards,
        group_filter=parts.group_filter,
    )


def build_pilots(settings: Settings, mixture: TaskMixture) -> PilotRule | None:
    """What begins groups with a few rollouts; `None` where all are made at once."""
    if settings.pilot_generations is None:
        return None
    strict = settings.group_filter == "mixed_correctness"
    return PilotRule(settings.pilot_generations, strict, mixture.scoring.has_outcome, settings.pilot_tasks)


def _most_groups(mixture: TaskMixture, generations: int) -> NDArray[np.float64] | None:
    """Groups of each task in a generate call, where the number of its environments is bounded."""
    bounds = [task.max_environments for task in mixture.tasks]
    if not any(bounds):
        return None
    return np.array([math.inf if bound is None else bound // generations for bound in bounds])
