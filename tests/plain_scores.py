"""The scores of `features.transferability`, as their papers write them: plain and slow."""

import numpy as np
import scipy.linalg
from sklearn.covariance import LedoitWolf
from sklearn.mixture import GaussianMixture


def one_hot(labels):
    return np.eye(labels.max() + 1)[labels]


def logme(x, labels):
    """You et al. 2021, algorithm 1, with a matrix inverse at each iteration."""
    count, width = x.shape
    evidences = []
    for y in one_hot(labels).T:
        alpha = beta = 1.0
        for _ in range(2000):
            matrix = alpha * np.eye(width) + beta * x.T @ x
            m = beta * np.linalg.solve(matrix, x.T @ y)
            gamma = width - alpha * np.trace(np.linalg.inv(matrix))
            old = alpha / beta
            alpha, beta = gamma / (m @ m), (count - gamma) / ((x @ m - y) ** 2).sum()
            if abs(alpha / beta - old) < 1e-12 * old:
                break
        matrix = alpha * np.eye(width) + beta * x.T @ x
        m = beta * np.linalg.solve(matrix, x.T @ y)
        evidences.append(
            width / 2 * np.log(alpha)
            + count / 2 * np.log(beta / (2 * np.pi))
            - beta / 2 * ((x @ m - y) ** 2).sum()
            - alpha / 2 * (m @ m)
            - np.linalg.slogdet(matrix)[1] / 2
        )
    return np.mean(evidences) / count


def leep(probabilities, labels):
    count, sources = probabilities.shape
    joint = np.zeros((labels.max() + 1, sources))
    for row, label in zip(probabilities, labels, strict=True):
        joint[label] += row / count
    total = 0.0
    for row, label in zip(probabilities, labels, strict=True):
        total += np.log(sum(row[z] * joint[label, z] / joint[:, z].sum() for z in range(sources)))
    return total / count


def nleep(x, labels, components_per_class=5, energy=0.8, seed=0):
    x = x - x.mean(0)
    _, values, vectors = np.linalg.svd(x, full_matrices=False)
    share, kept = 0.0, 0
    while share < energy:
        share += values[kept] ** 2 / (values**2).sum()
        kept += 1
    x = x @ vectors[:kept].T / values[0] * len(x) ** 0.5
    mixture = GaussianMixture(components_per_class * (labels.max() + 1), random_state=seed).fit(x)
    return leep(mixture.predict_proba(x), labels)


def nce(source, target):
    total = 0.0
    for z, y in zip(source, target, strict=True):
        total += np.log(np.mean(target[source == z] == y))
    return total / len(source)


def between(x, labels):
    means = np.stack([x[labels == k].mean(0) for k in range(labels.max() + 1)])
    return np.cov(means[labels].T, bias=True)


def h_score(x, labels):
    return np.trace(np.linalg.pinv(np.cov(x.T, bias=True), hermitian=True) @ between(x, labels))


def shrunk_h_score(x, labels):
    fitted = LedoitWolf().fit(x)
    inverse = np.linalg.inv(fitted.covariance_)
    return (1 - fitted.shrinkage_) * np.trace(inverse @ between(x, labels))


def sfda(x, labels):
    """With the discriminants' generalised eigenvectors, all of which make up the inverse."""
    x = x - x.mean(0)
    count, width = x.shape
    groups = range(labels.max() + 1)

    def fit(x, shrinkage):
        means = np.stack([x[labels == k].mean(0) for k in groups])
        within = sum(np.cov(x[labels == k].T, bias=True) * (labels == k).mean() for k in groups)
        if shrinkage is None:
            shrinkage = max(np.exp(-5 * np.linalg.eigvalsh(within)[-1]), 1e-10)
        within = (1 - shrinkage) * within + shrinkage * np.trace(within) / width * np.eye(width)
        _, vectors = scipy.linalg.eigh(np.cov(x.T, bias=True) - within, within)
        coefficients = means @ vectors @ vectors.T
        priors = np.array([(labels == k).mean() for k in groups])
        logits = x @ coefficients.T - 0.5 * np.diag(means @ coefficients.T) + np.log(priors)
        return logits - scipy.special.logsumexp(logits, 1, keepdims=True), means, shrinkage

    log_posterior, means, shrinkage = fit(x, None)
    mixed = x.copy()
    for i, label in enumerate(labels):
        own = scipy.special.softmax(np.exp(log_posterior[i]))[label]
        others = np.mean([means[k] for k in groups if k != label], 0)
        mixed[i] = own * x[i] + (1 - own) * others
    return fit(mixed, shrinkage)[0][np.arange(count), labels].mean()


def transrate(x, labels, distortion=1e-4):
    def rate(x):
        return np.linalg.slogdet(np.eye(x.shape[1]) + x.T @ x / (len(x) * distortion))[1] / 2

    x = x - x.mean(0)
    parts = [x[labels == k] for k in range(labels.max() + 1)]
    return rate(x) - sum(len(part) / len(x) * rate(part) for part in parts)


def gbc(x, labels, components=64, least_variance=1e-4):
    x = x - x.mean(0)
    x = x @ np.linalg.svd(x, full_matrices=False)[2][:components].T
    total = 0.0
    for i in range(labels.max() + 1):
        for j in range(labels.max() + 1):
            one, other = x[labels == i], x[labels == j]
            first, second = (a.var(0).clip(least_variance) for a in (one, other))
            middle = (first + second) / 2
            distance = ((one.mean(0) - other.mean(0)) ** 2 / middle).sum() / 8
            distance += 0.5 * np.log(middle / np.sqrt(first * second)).sum()
            total -= np.exp(-distance) if i != j else 0
    return total


def knn_accuracy(x, labels, neighbours=5):
    right = 0
    for i in range(len(x)):
        distances = [((x[i] - row) ** 2).sum() for row in x]
        near = [int(labels[j]) for j in np.argsort(distances) if j != i][:neighbours]
        right += max(near, key=lambda k: (near.count(k), -near.index(k))) == labels[i]
    return right / len(x)


def held_out(x, y, weights, strengths):
    """A weighted ridge regression with an intercept, fitted again without each row."""

    def fit(x, y, weights, penalty):
        mean = weights @ x / weights.sum(), weights @ y / weights.sum()
        x, y = x - mean[0], y - mean[1]
        matrix = x.T @ (weights[:, None] * x) + penalty * np.eye(x.shape[1])
        slope = np.linalg.solve(matrix, x.T @ (weights[:, None] * y))
        return lambda row: (row - mean[0]) @ slope + mean[1]

    spread = np.sqrt(weights)[:, None] * (x - weights @ x)
    scale = (spread**2).sum() / np.linalg.matrix_rank(spread)
    tried = []
    for strength in strengths:
        rest = [np.arange(len(x)) != i for i in range(len(x))]
        found = np.stack([fit(x[r], y[r], weights[r], strength * scale)(x[~r][0]) for r in rest])
        tried.append((weights @ ((found - y) ** 2).sum(1), found))
    return min(tried, key=lambda pair: pair[0])[1]


def linear_probe_accuracy(x, labels, strengths=tuple(10.0**power for power in range(-6, 4))):
    found = held_out(x, one_hot(labels), np.full(len(x), 1 / len(x)), strengths)
    return (found.argmax(1) == labels).mean()


def proxy_a_distance(source, target):
    side = np.concatenate([np.ones(len(source)), -np.ones(len(target))])
    weights = np.concatenate([np.full(len(a), 0.5 / len(a)) for a in (source, target)])
    x = np.concatenate([source, target])
    found = held_out(x, side[:, None], weights, [10.0**power for power in range(-6, 4)])[:, 0]
    wrong = np.sign(found) != side
    errors = wrong[side > 0].mean(), wrong[side < 0].mean()
    return max(2 * (1 - sum(errors)), 0)


def frechet_distance(source, target):
    one, other = np.cov(source.T), np.cov(target.T)
    root = scipy.linalg.sqrtm(one @ other).real
    apart = ((source.mean(0) - target.mean(0)) ** 2).sum()
    return apart + np.trace(one + other - 2 * root)
