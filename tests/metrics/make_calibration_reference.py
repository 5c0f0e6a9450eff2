"""Writes calibration_reference.json: values of torch, torchmetrics, netcal and cleanlab.

Run it in an environment of its own: pip install torch==2.13.0 torchmetrics==1.9.0 netcal==1.4.0
cleanlab==2.9.0; python tests/metrics/make_calibration_reference.py
"""

import json
import pathlib

import cleanlab.count
import cleanlab.filter
import netcal.metrics
import netcal.scaling
import numpy as np
import torch
import torchmetrics.classification


def inputs():
    """Logits [300, 4] that are too sure, and labels with some that are wrong."""
    rng = np.random.default_rng(7)
    labels = rng.integers(0, 4, 300)
    logits = np.round(rng.normal(0, 2, (300, 4)) + 3.0 * np.eye(4)[labels], 4)
    wrong = rng.random(300) < 0.08
    return logits, np.where(wrong, rng.integers(0, 4, 300), labels)


def main():
    """Computes every value and writes the file."""
    logits, labels = inputs()
    p = np.exp(logits - logits.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    tensor, target = torch.tensor(logits), torch.tensor(labels)
    ece = torchmetrics.classification.MulticlassCalibrationError(4, n_bins=15, norm='l1')
    one_class = [netcal.metrics.ECE(15).measure(p[:, k], labels == k) for k in range(4)]
    log_t = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    tight = {'tolerance_grad': 1e-12, 'tolerance_change': 1e-16, 'line_search_fn': 'strong_wolfe'}
    solver = torch.optim.LBFGS([log_t], max_iter=500, **tight)

    def closure():
        solver.zero_grad()
        loss = torch.nn.functional.cross_entropy(tensor / log_t.exp(), target)
        loss.backward()
        return loss

    solver.step(closure)
    issues = cleanlab.filter.find_label_issues(
        labels, p, filter_by='low_self_confidence', return_indices_ranked_by='self_confidence'
    )
    content = {
        'logits': logits.tolist(),
        'labels': labels.tolist(),
        'torchmetrics_ece': float(ece(torch.tensor(p), target)),
        'netcal_ece': float(netcal.metrics.ECE(15).measure(p, labels)),
        'netcal_ece_equal_mass': float(
            netcal.metrics.ECE(15, equal_intervals=False).measure(p, labels)
        ),
        'netcal_ece_class_wise': float(np.mean(one_class)),
        'torch_brier': 4
        * float(
            torch.nn.functional.mse_loss(
                torch.tensor(p), torch.nn.functional.one_hot(target, 4).double()
            )
        ),
        'torch_nll': float(torch.nn.functional.cross_entropy(tensor, target)),
        'torch_temperature': float(log_t.detach().exp()),
        'cleanlab_joint': cleanlab.count.compute_confident_joint(
            labels, p, calibrate=False
        ).tolist(),
        'cleanlab_issues': [int(i) for i in issues],
    }
    path = pathlib.Path(__file__).with_name('calibration_reference.json')
    path.write_text(json.dumps(content) + '\n')
    print({k: v for k, v in content.items() if k not in ('logits', 'labels')})


if __name__ == '__main__':
    main()
