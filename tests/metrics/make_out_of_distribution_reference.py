"""Writes out_of_distribution_reference.json: values of scikit-learn and of plain NumPy.

Run it in a separate environment: pip install scikit-learn==1.9.1 scipy;
python tests/metrics/make_out_of_distribution_reference.py
"""

import json
import pathlib

import numpy as np

# Python finds it because the folder of a script is on the path.
from out_of_distribution_inputs import inputs
from scipy.special import logsumexp
from sklearn.covariance import EmpiricalCovariance
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve
from sklearn.neighbors import NearestNeighbors


def scores(x, labels, kernel, bias):
    """Every score of the familiar and the unfamiliar features."""
    logits = {name: values @ kernel + bias for name, values in x.items()}
    means = np.stack([x['train'][labels == k].mean(0) for k in range(3)])
    within = EmpiricalCovariance(assume_centered=True).fit(x['train'] - means[labels])
    unit = {name: v / np.linalg.norm(v, axis=1, keepdims=True) for name, v in x.items()}
    neighbours = NearestNeighbors(n_neighbors=10).fit(unit['train'])
    origin = -np.linalg.pinv(kernel.T) @ bias
    covariance = EmpiricalCovariance(assume_centered=True).fit(x['train'] - origin).covariance_
    values, vectors = np.linalg.eig(covariance)
    rest = vectors.T[np.argsort(values * -1)[6:]].T
    length = {name: np.linalg.norm((v - origin) @ rest, axis=-1) for name, v in x.items()}
    alpha = logits['train'].max(axis=-1).mean() / length['train'].mean()
    result = {}
    for name in ('familiar', 'unfamiliar'):
        z, v = logits[name], x[name]
        p = np.exp(z) / np.exp(z).sum(1, keepdims=True)
        result[name] = {
            'max_softmax': p.max(1),
            'energy': np.log(np.exp(z).sum(1)),
            'max_logit': z.max(1),
            'mahalanobis': -np.min([within.mahalanobis(v - mean) for mean in means], 0),
            'knn': -neighbours.kneighbors(unit[name])[0][:, -1],
            'vim': logsumexp(z, axis=-1) - alpha * length[name],
        }
    return result


def detection(familiar, unfamiliar):
    """The measures of a score."""
    values = np.concatenate([familiar, unfamiliar])
    labels = np.r_[np.ones(len(familiar)), np.zeros(len(unfamiliar))]
    false, true, _ = roc_curve(labels, values, drop_intermediate=False)
    return {
        'auroc': roc_auc_score(labels, values),
        'aupr_familiar': average_precision_score(labels, values),
        'aupr_unfamiliar': average_precision_score(1 - labels, -values),
        'fpr95': false[np.argmax(true >= 0.95)],
    }


def main():
    """Computes every value and writes the file."""
    results = scores(*inputs())
    tied = np.round(results['familiar']['energy']), np.round(results['unfamiliar']['energy'])
    content = {
        'scores': {s: {k: v.tolist() for k, v in one.items()} for s, one in results.items()},
        'detection': {k: detection(*(results[s][k] for s in results)) for k in results['familiar']},
        'tied': detection(*tied),
    }
    path = pathlib.Path(__file__).with_name('out_of_distribution_reference.json')
    path.write_text(json.dumps(content, indent=1) + '\n')


if __name__ == '__main__':
    main()
