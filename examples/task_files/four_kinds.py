"""What `four_kinds.yaml` names: a tool, an environment and a program."""

from typing import Any


PRICES = {"apple": 3, "bread": 4, "cheese": 9, "milk": 2, "tea": 6}


def price(item: str) -> str:
    """
    Looks up what an item costs.

    Args:
        item: Name of the item, in singular.
    """
    return str(PRICES.get(item.strip().lower(), "not sold here"))


class GuessNumber:
    """A number from 1 to `largest` is to be found in at most six guesses."""

    def __init__(self, largest: int = 30) -> None:
        self.largest = largest

    def reset(self, seed: int) -> str:
        self.number, self.left, self.found = 1 + seed * 7 % self.largest, 6, False
        return f"I think of a number from 1 to {self.largest}. Find it by calling `guess`."

    def guess(self, number: int) -> str:
        """
        Guesses the number.

        Args:
            number: The guess.
        """
        if self.left == 0:
            return "No guesses are left."
        self.left -= 1
        self.found |= number == self.number
        return "Right." if number == self.number else "It is larger." if number < self.number else "It is smaller."

    def get_reward(self) -> float:
        return float(self.found)


def plan_and_solve(example: dict[str, Any], call: Any) -> str:
    """Asks for a plan first, and then for the answer in its light."""
    question = example["prompt"][-1]["content"]
    plan = call("plan", [{"role": "user", "content": f"{question}\nSay in one line how to find out."}])
    return call("solve", [{"role": "user", "content": f"{question}\nPlan: {plan}\nGive the number in \\boxed{{}}."}])
