// Products of one atom's row with itself, with their gradients and the tangents of both.
#pragma once
#include "network.h"
#include "vector.h"

namespace {

// V vectors of channels side by side.
template <int V> struct Vectors {
    Vector of[V];
};

template <int V> Vectors<V> load_vectors(const REAL *p) {
    Vectors<V> v;
    unroll<V>([&](auto k) { v.of[k] = load(p + k * LANES); });
    return v;
}

// out[place] += weight * sum of value * product(term), for the terms of each place in turn
template <int V, class Product> void add_products(const SquareTerm *t, int64_t count, const REAL *weight, REAL *out, Product &&product) {
    const Vectors<V> w = load_vectors<V>(weight);
    for (const SquareTerm *const end = t + count; t != end;) {
        const int64_t place = t->out;
        Vectors<V> sum = {};
        do {
            const REAL value = REAL(t->value);
            unroll<V>([&](auto k) { sum.of[k] += value * product(*t, k * LANES); });
        } while (++t != end && t->out == place);
        unroll<V>([&](auto k) { store(out + place + k * LANES, load(out + place + k * LANES) + w.of[k] * sum.of[k]); });
    }
}

// body(path, u, vectors) for each path's channels, two vectors at a time where there are two
template <class Body> void square_paths(const NetworkLayer &layer, Body &&body) {
    for (int64_t p = 0; p < layer.num_squares; p++) {
        const SquarePath &path = layer.squares[p];
        int64_t u = 0;
        for (; u + 2 * LANES <= path.width; u += 2 * LANES) body(path, u, Index<2>());
        if (u < path.width) body(path, u, Index<1>());
    }
}

const REAL *weight_of(const SquarePath &path) { return static_cast<const REAL *>(path.weight); }

void square(const NetworkLayer &layer, const REAL *x, REAL *out) {
    square_paths(layer, [&](const SquarePath &path, int64_t u, auto vectors) {
        add_products<vectors.value>(path.terms, path.num_terms, weight_of(path) + u, out + u, [&](const SquareTerm &t, int64_t v) {
            return load(x + t.first + u + v) * load(x + t.second + u + v);
        });
    });
}

void square_tangent(const NetworkLayer &layer, const REAL *x, const REAL *tx, REAL *out) {
    square_paths(layer, [&](const SquarePath &path, int64_t u, auto vectors) {
        add_products<vectors.value>(path.terms, path.num_terms, weight_of(path) + u, out + u, [&](const SquareTerm &t, int64_t v) {
            const int64_t a = t.first + u + v, b = t.second + u + v;
            return load(tx + a) * load(x + b) + load(x + a) * load(tx + b);
        });
    });
}

// g_x += gradients by x, of g, those by the squares
void square_gradient(const NetworkLayer &layer, const REAL *x, const REAL *g, REAL *g_x) {
    square_paths(layer, [&](const SquarePath &path, int64_t u, auto vectors) {
        add_products<vectors.value>(path.gradient_terms, path.num_gradient_terms, weight_of(path) + u, g_x + u, [&](const SquareTerm &t, int64_t v) {
            return load(g + t.first + u + v) * load(x + t.second + u + v);
        });
    });
}

// tg_x += tangents of what square_gradient adds; gradients by the weights, which lie `to_gradient` bytes from them
void square_gradient_tangent(const NetworkLayer &layer, const REAL *x, const REAL *tx, const REAL *g, const REAL *tg, REAL *tg_x, int64_t to_gradient) {
    square_paths(layer, [&](const SquarePath &path, int64_t u, auto vectors) {
        constexpr int V = vectors.value;
        add_products<V>(path.gradient_terms, path.num_gradient_terms, weight_of(path) + u, tg_x + u, [&](const SquareTerm &t, int64_t v) {
            const int64_t a = t.first + u + v, b = t.second + u + v;
            return load(tg + a) * load(x + b) + load(g + a) * load(tx + b);
        });
        Vectors<V> sum = {};
        for (const SquareTerm *t = path.terms; t != path.terms + path.num_terms; t++)
            unroll<V>([&](auto k) {
                const int64_t v = u + k * LANES, a = t->first + v, b = t->second + v;
                const Vector product = load(x + a) * load(x + b), tangent = load(tx + a) * load(x + b) + load(x + a) * load(tx + b);
                sum.of[k] += REAL(t->value) * (load(tg + t->out + v) * product + load(g + t->out + v) * tangent);
            });
        REAL *const gradient = reinterpret_cast<REAL *>(reinterpret_cast<intptr_t>(path.weight) + to_gradient) + u;
        unroll<V>([&](auto k) { store(gradient + k * LANES, load(gradient + k * LANES) + sum.of[k]); });
    });
}

}  // namespace
