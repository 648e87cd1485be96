// Harmonics of edge vectors and what their gradients mean for forces. Always in double: it costs little, and
// distances decide the interval of a table.
#pragma once
#include <cmath>

#include "network.h"
#include "vector.h"

namespace {

constexpr int LANE_EDGES = 8;
typedef double Edges __attribute__((vector_size(8 * LANE_EDGES)));
constexpr int MAX_HARMONICS = 25;

struct EdgeGeometry {
    Edges unit[3], r, y[MAX_HARMONICS];

    // Vectors of `count` edges from `first` on; the surplus lanes repeat the last one.
    EdgeGeometry(const Network &network, const double *vectors, int count) {
        Edges v[3];
        for (int e = 0; e < LANE_EDGES; e++)
            for (int a = 0; a < 3; a++) v[a][e] = vectors[3 * (e < count ? e : count - 1) + a];
        const Edges square = v[0] * v[0] + v[1] * v[1] + v[2] * v[2];
        for (int e = 0; e < LANE_EDGES; e++) r[e] = std::sqrt(square[e]);
        y[0] = Edges{} + 1.0;
        for (int a = 0; a < 3; a++) {
            unit[a] = v[a] / r;
            if (network.l_max > 0) y[1 + a] = std::sqrt(3.0) * unit[a];
        }
        for (int64_t l = 2; l <= network.l_max; l++) {
            for (int64_t m = 0; m <= 2 * l; m++) y[l * l + m] = Edges{};
            for (int64_t s = network.steps_first[l - 2]; s < network.steps_first[l - 1]; s++) {
                const HarmonicStep &step = network.steps[s];
                y[l * l + step.m] += step.value * y[1 + step.a] * y[(l - 1) * (l - 1) + step.b];
            }
        }
    }

    // Tangents of the harmonics and of the distance along changes of the vectors.
    void tangent(const Network &network, const double *changes, int count, Edges *ty, Edges &tr) const {
        Edges v[3];
        for (int e = 0; e < LANE_EDGES; e++)
            for (int a = 0; a < 3; a++) v[a][e] = e < count ? changes[3 * e + a] : 0.0;
        tr = unit[0] * v[0] + unit[1] * v[1] + unit[2] * v[2];
        ty[0] = Edges{};
        if (network.l_max > 0)
            for (int a = 0; a < 3; a++) ty[1 + a] = std::sqrt(3.0) * (v[a] - unit[a] * tr) / r;
        for (int64_t l = 2; l <= network.l_max; l++) {
            for (int64_t m = 0; m <= 2 * l; m++) ty[l * l + m] = Edges{};
            for (int64_t s = network.steps_first[l - 2]; s < network.steps_first[l - 1]; s++) {
                const HarmonicStep &step = network.steps[s];
                const int64_t a = 1 + step.a, b = (l - 1) * (l - 1) + step.b;
                ty[l * l + step.m] += step.value * (ty[a] * y[b] + y[a] * ty[b]);
            }
        }
    }

    // dE/d(edge vector) from the gradients by harmonics, which are used up, and by the distance.
    void gradient(const Network &network, Edges *dy, const Edges &dr, Edges *g) const {
        for (int64_t l = network.l_max; l >= 2; l--)
            for (int64_t s = network.steps_first[l - 2]; s < network.steps_first[l - 1]; s++) {
                const HarmonicStep &step = network.steps[s];
                const Edges d = step.value * dy[l * l + step.m];
                dy[1 + step.a] += d * y[(l - 1) * (l - 1) + step.b];
                dy[(l - 1) * (l - 1) + step.b] += d * y[1 + step.a];
            }
        Edges radial = {}, du[3] = {};
        if (network.l_max > 0)
            for (int a = 0; a < 3; a++) {
                du[a] = std::sqrt(3.0) * dy[1 + a];
                radial += du[a] * unit[a];
            }
        for (int a = 0; a < 3; a++) g[a] = dr * unit[a] + (du[a] - radial * unit[a]) / r;
    }
};

}  // namespace
