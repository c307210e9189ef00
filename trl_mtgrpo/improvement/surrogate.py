"""The clipped objective of each sequence, from which a task's improvement is measured."""

import torch


def sequence_surrogate(
    logps: torch.Tensor,
    old_logps: torch.Tensor,
    advantages: torch.Tensor,
    mask: torch.Tensor,
    epsilon_low: float,
    epsilon_high: float,
    delta: float | None = None,
    level: str = "token",
) -> torch.Tensor:
    r"""
    The clipped GRPO objective of each sequence, without KL and entropy terms.

    $$J_i = \frac{1}{|y_i|} \sum_t \min\big(r_{it} A_i,\ \mathrm{clip}(r_{it}, 1-\epsilon_{low}, 1+\epsilon_{high})
    A_i\big), \qquad r_{it} = \frac{\pi(y_{it})}{\pi_{old}(y_{it})}$$

    where the old policy is the one that generated the sequence. The improvement of a task is the sum, or mean, over
    its sequences of the objective after the update minus before it (Section 4.1).

    Args:
        logps (`torch.Tensor`):
            Per-token log-probabilities under the policy to judge, shape `(N, T)`.
        old_logps (`torch.Tensor`):
            The same under the policy that generated, shape `(N, T)`.
        advantages (`torch.Tensor`):
            Advantages, shape `(N,)`.
        mask (`torch.Tensor`):
            1 for completion tokens that count, shape `(N, T)`.
        epsilon_low (`float`):
            Lower clip range.
        epsilon_high (`float`):
            Upper clip range.
        delta (`float`, *optional*):
            TRL's upper bound of the unclipped ratio.
        level (`str`, *optional*, defaults to `"token"`):
            `"token"` ratios or one `"sequence"` ratio, as in TRL's `importance_sampling_level`.

    Returns:
        `torch.Tensor`: shape `(N,)`; 0 for a sequence without counted tokens.
    """
    lengths = mask.sum(dim=1).clamp(min=1.0)
    log_ratio = torch.where(mask.bool(), logps - old_logps, 0.0)  # (N, T)
    if level == "sequence":
        log_ratio = (log_ratio.sum(dim=1) / lengths)[:, None].expand_as(log_ratio)
    ratio = log_ratio.exp()
    clipped = ratio.clamp(1.0 - epsilon_low, 1.0 + epsilon_high)
    if delta is not None:
        ratio = ratio.clamp(max=delta)
    per_token = torch.min(ratio * advantages[:, None], clipped * advantages[:, None])
    return (per_token * mask).sum(dim=1) / lengths
