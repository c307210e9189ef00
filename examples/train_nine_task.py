"""
Trains one model on easy, medium and hard countdown, zebra puzzles and arc_1d: what differs from `train_three_task.py`.

    accelerate launch examples/train_nine_task.py

trains the tiny model. With `--model_name_or_path` it is the paper's Experiment 2.
"""

from train_three_task import LAPTOP, PAPER, run


LAPTOP_NINE = LAPTOP | {
    "output_dir": "outputs/nine_task",
    # More tasks need more prompts per step, so that each is in most batches.
    "per_device_train_batch_size": 128,
    "max_completion_length": 16,
    "max_steps": 200,
    "eval_steps": 40,
    "num_generations_eval": 4,
}

# 256 prompts x 8 rollouts per generation batch, four optimizer steps on each, the lenient filter.
PAPER_NINE = PAPER | {
    "output_dir": "outputs/nine_task_hub",
    "gradient_accumulation_steps": 64,
    "steps_per_generation": 256,
    "num_generations": 8,
    "task_weight_tradeoff": 0.3,
    "task_weight_decay": 1e-4,
    "improvement_clip": 0.1,
    "group_filter": "reward_variance",
    "max_resampling_rounds": 2,
}


if __name__ == "__main__":
    run("nine", LAPTOP_NINE, PAPER_NINE, levels=("easy", "medium", "hard"))
