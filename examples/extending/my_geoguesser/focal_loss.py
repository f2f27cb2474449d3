"""Focal loss: cross entropy that gives places with a confident, correct posterior less weight."""

import torch

from geoguesser.errors import check_number
from geoguesser.model.losses import CellLoss


class FocalLoss(CellLoss):
    """-(1 - p_c)^gamma log p_c, with p_c the posterior of the true cell.

    Source: T.-Y. Lin et al., arXiv 1708.02002.

    Args:
        gamma: Exponent; 0 gives cross entropy.
        class_balance: Exponent of the class weights, from 0 to 1.
    """

    def __init__(self, *, gamma=2.0, class_balance=0.0):
        super().__init__(class_balance=class_balance)
        self.gamma = check_number("loss.gamma", gamma, low=0.0)

    def compute_losses(self, logits, target, class_vectors):
        log_p = torch.log_softmax(logits, dim=1).gather(1, target["cell"][:, None])[:, 0]
        return -((1.0 - log_p.exp()) ** self.gamma) * log_p
