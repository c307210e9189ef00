"""
A weighting strategy of one's own: three functions, handed to the trainer as an object.

    python examples/custom_weighting.py

This one gives each task the share that its distance to a goal deserves, and changes slowly. The toy below trains three
simulated tasks with it; `MultiTaskGRPOTrainer(..., weighting=DistanceToGoal())` trains a model.
"""

from dataclasses import dataclass, replace

import numpy as np

from trl_mtgrpo import TaskSignal, WeightingState


@dataclass(frozen=True)
class DistanceToGoal:
    """Weights in proportion to how far each task is from `goal`, averaged over about `1 / rate` updates."""

    goal: float = 1.0
    rate: float = 0.1

    def init(self, num_tasks: int) -> WeightingState:
        return replace(WeightingState.zeros(num_tasks), values=np.full(num_tasks, 1.0 / num_tasks))

    def update(self, signal: TaskSignal, state: WeightingState) -> WeightingState:
        # J keeps its last value for a task that was not generated, so absence moves no weight here.
        distance = np.maximum(self.goal - signal.rewards, 0.0) + 1e-3
        values = (1.0 - self.rate) * state.values + self.rate * distance / distance.sum()
        return replace(state, values=values, step=state.step + 1)

    def weights(self, state: WeightingState) -> np.ndarray:
        return state.values / state.values.sum()


def simulated_learning(weighting: DistanceToGoal, num_steps: int = 200) -> np.ndarray:
    """Accuracies of three tasks that learn in proportion to their weights, at different speeds; shape `(steps, 3)`."""
    speed, accuracy = np.array([0.10, 0.05, 0.02]), np.array([0.5, 0.3, 0.1])
    state, curve = weighting.init(3), []
    for _ in range(num_steps):
        accuracy = accuracy + speed * weighting.weights(state) * (1.0 - accuracy)
        state = weighting.update(TaskSignal(rewards=accuracy), state)
        curve.append(accuracy)
    return np.array(curve)


def main() -> None:
    curve = simulated_learning(DistanceToGoal())
    for step in (1, 50, 100, 200):
        print(f"step {step:3d}  accuracy", " ".join(f"{value:.2f}" for value in curve[step - 1]))


if __name__ == "__main__":
    main()
