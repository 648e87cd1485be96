"""Geometric vector perceptrons and their network as the papers write them, in numpy, one atom and edge at a time.

Jing et al., arXiv:2009.01411 and arXiv:2106.03843, algorithms 1: vectors are the rows of V ∈ R^(ν × 3), matrices
multiply from the left. Nothing here is taken from the package but the numbers in the weights.
"""

import numpy as np

# Second moments of silu and of the sigmoid under a standard normal distribution, as e3nn samples the first.
SILU_GAIN, SIGMOID_GAIN = 1.6791767923989418, 1.8462285453386054


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def matrix(weight):
    """Our (fan-in, fan-out) weight as the papers' matrix."""
    w = weight.detach().numpy()
    return w.T / np.sqrt(len(w))


def gvp(layer, s, V, norm=None):
    """Algorithm 1 with the weights of one of our layers; s (n,), V (ν, 3)."""
    if norm is None:
        eps = layer.smoothing

        def norm(v):
            return np.sqrt(v @ v + eps**2) - eps

    V_h = matrix(layer.w_h) @ V
    s_h = np.array([norm(v) for v in V_h])
    s_m = matrix(layer.w_m) @ np.concatenate([s, s_h]) + layer.b_m.detach().numpy()
    s_out = SILU_GAIN * s_m * sigmoid(s_m) if layer.activated else s_m
    if not layer.vectors_out:
        return s_out, np.zeros((0, 3))
    V_mu = matrix(layer.w_mu) @ V_h
    gate = SIGMOID_GAIN * sigmoid(matrix(layer.w_g) @ s_m + layer.b_g.detach().numpy())
    return s_out, gate[:, None] * V_mu


def network(ours, species, edge_index, edge_vectors):
    """Features of every atom: scalars (N, n) and vectors (N, ν, 3)."""
    config = ours.config
    wave_numbers, p = ours.basis.wave_numbers.detach().numpy(), config.polynomial_p
    edges = []
    for i, j, vector in zip(*edge_index, edge_vectors, strict=True):
        r = np.linalg.norm(vector)
        x = r / config.cutoff
        envelope = 1 - (p + 1) * (p + 2) / 2 * x**p + p * (p + 2) * x ** (p + 1) - p * (p + 1) / 2 * x ** (p + 2)
        s_e, V_e = gvp(ours.edge_embedding, 2 * np.sin(wave_numbers * r) / r, (vector / r)[None])
        edges.append((i, j, envelope, s_e, V_e))
    s = [ours.embedding.detach().numpy()[z] for z in species]
    V = [np.zeros((0, 3)) for _ in species]
    for layer in ours.layers:
        received_s, received_V = [np.zeros_like(x) for x in s], [np.zeros((config.num_vectors, 3)) for _ in s]
        for i, j, envelope, s_e, V_e in edges:
            m_s, m_V = gvp(
                layer.message.perceptron, np.concatenate([s[i], s[j], s_e]), np.concatenate([V[i], V[j], V_e])
            )
            for later in layer.message_rest:
                m_s, m_V = gvp(later, m_s, m_V)
            received_s[i] += envelope * m_s / np.sqrt(config.avg_num_neighbors)
            received_V[i] += envelope * m_V / np.sqrt(config.avg_num_neighbors)
        s, V = added(s, V, received_s, received_V)
        changes = []
        for s_i, V_i in zip(s, V, strict=True):
            changes.append(gvp(layer.update[1], *gvp(layer.update[0], s_i, V_i)))
        s, V = added(s, V, *zip(*changes, strict=True))
    return np.array(s), np.array(V)


def added(s, V, more_s, more_V):
    """Residual connection; where the number of vectors changes there is none for them."""
    s = [a + b for a, b in zip(s, more_s, strict=True)]
    return s, [a + b if a.shape == b.shape else b for a, b in zip(V, more_V, strict=True)]
