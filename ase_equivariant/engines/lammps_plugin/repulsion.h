// SPDX-License-Identifier: MIT
// The ZBL repulsion of potential/repulsion.py, in either form.
#pragma once
#include <cmath>
#include <cstdint>
#include <vector>

// Of a centre and a neighbour, in eV and Å. a: of kind 1 cubic, quartic and constant term of the switch, of kind 2 1/cutoff.
struct RepulsionPair {
    double charges, screening, a[3];
};

struct Repulsion {
    uint32_t kind = 0;  // 0 none, 1 switched off between inner and outer, 2 under an envelope
    double inner = 0, outer = 0, p = 0;
    std::vector<RepulsionPair> pairs;  // (centres, neighbours)

    // Energy of a pair at distance r < outer, and its slope.
    void evaluate(const RepulsionPair &pair, double r, double &energy, double &slope) const {
        static const double amplitudes[4] = {0.18175, 0.50986, 0.28022, 0.02817}, decays[4] = {3.19980, 0.94229, 0.40290, 0.20162};
        double sum = 0, falling = 0;
        for (int k = 0; k < 4; k++) {
            const double term = amplitudes[k] * std::exp(-decays[k] * pair.screening * r);
            sum += term, falling += decays[k] * term;
        }
        energy = pair.charges / r * sum;
        slope = -energy / r - pair.charges / r * pair.screening * falling;
        if (kind == 1) {
            const double d = r > inner ? r - inner : 0;
            energy += pair.a[2] + d * d * d * (pair.a[0] / 3 + pair.a[1] / 4 * d);
            slope += d * d * (pair.a[0] + pair.a[1] * d);
        } else {
            const double x = r * pair.a[0] < 1 ? r * pair.a[0] : 1, power = std::pow(x, p - 1);
            const double u = 1 - power * x * ((p + 1) * (p + 2) / 2 - p * (p + 2) * x + p * (p + 1) / 2 * x * x);
            const double u_slope = -pair.a[0] * p * (p + 1) * (p + 2) / 2 * power * (1 - x) * (1 - x);
            slope = slope * u + energy * u_slope;
            energy *= u;
        }
    }
};
