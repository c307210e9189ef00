"""A short run that pushes to the Hub during and after training; `test_hub.py` starts it with a stand-in."""

import sys

from tiny import three_tasks, tiny_config, tiny_model, tiny_tokenizer

from trl_mtgrpo import MultiTaskGRPOTrainer


trainer = MultiTaskGRPOTrainer(
    model=tiny_model(),
    processing_class=tiny_tokenizer(),
    tasks=three_tasks(with_eval=True),
    args=tiny_config(
        sys.argv[1],
        max_steps=4,
        eval_on_start=True,
        eval_strategy="steps",
        eval_steps=2,
        save_strategy="steps",
        save_steps=2,
        push_to_hub=True,
        hub_always_push=True,
    ),
)
trainer.train()
trainer.push_to_hub()
