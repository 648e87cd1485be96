// What cpu.py calls: plans, the order of edges, threads, and the choice of the instruction set.
#include <algorithm>
#include <cmath>
#include <vector>

#include "conv.h"
#include "couplings.h"
#include "threads.h"

#define ROW_KERNELS(level) extern "C" const RowKernel conv_##level##_float[], conv_##level##_double[];
ROW_KERNELS(baseline)
#ifdef WITH_X86_LEVELS
ROW_KERNELS(avx2)
ROW_KERNELS(avx512)
#endif

Parallel parallel_as_pytorch = parallel_on_helpers;

namespace {

enum Status { OK, BAD_EDGE, BAD_COUPLING, BAD_DEGREE };

struct OwnedPlan : Plan {
    std::vector<Path> path_storage;
    std::vector<float> float_couplings;
    std::vector<double> double_couplings;
};

// Appends the coefficients that can differ from zero, in the order of Couplings; false if another one does.
bool pack(const Path &path, const double *dense, std::vector<double> &packed) {
    const int l1 = int(path.l1), l2 = int(path.l2), l3 = int(path.l3);
    for (int m1 = -l1; m1 <= l1; m1++)
        for (int m3 = -l3; m3 <= l3; m3++)
            for (int m2 = -l2; m2 <= l2; m2++) {
                const double value = dense[((m1 + l1) * (2 * l2 + 1) + m2 + l2) * (2 * l3 + 1) + m3 + l3];
                if (couples(l1, l2, l3, m1, m2, m3)) packed.push_back(value);
                else if (!(std::fabs(value) < 1e-12)) return false;
            }
    packed.push_back(0);  // kernels may read, not use, one coefficient beyond the last
    return true;
}

// Edges sorted by their atom in one row of edge_index, stably, by counting.
class SortedEdges {
public:
    Status sort(const int64_t *atom, const int64_t *other, int64_t num_atoms, int64_t num_edges) {
        first_.assign(num_atoms + 2, 0);
        bool sorted = true;
        for (int64_t e = 0; e < num_edges; e++) {
            if (uint64_t(atom[e]) >= uint64_t(num_atoms) || uint64_t(other[e]) >= uint64_t(num_atoms)) return BAD_EDGE;
            first_[atom[e] + 2]++;
            sorted = sorted && (e == 0 || atom[e - 1] <= atom[e]);
        }
        for (int64_t i = 0; i < num_atoms; i++) first_[i + 2] += first_[i + 1];
        // first_[i + 1] starts row i and moves to its end as edges are placed; then first_[i] starts row i.
        if (!sorted) {
            edge_.resize(num_edges);
            for (int64_t e = 0; e < num_edges; e++) edge_[first_[atom[e] + 1]++] = e;
        }
        rows = EdgeRows{first_.data() + (sorted ? 1 : 0), sorted ? nullptr : edge_.data(), other};
        return OK;
    }
    EdgeRows rows;

private:
    std::vector<int64_t> first_, edge_;
};

int best_level() {
#ifdef WITH_X86_LEVELS
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512bw"))
        return 2;
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return 1;
#endif
    return 0;
}

const RowKernel *row_kernels(int level, bool is_double) {
#ifdef WITH_X86_LEVELS
    if (level >= 2) return is_double ? conv_avx512_double : conv_avx512_float;
    if (level == 1) return is_double ? conv_avx2_double : conv_avx2_float;
#endif
    (void)level;
    return is_double ? conv_baseline_double : conv_baseline_float;
}

}  // namespace

#define EXPORT extern "C" __attribute__((visibility("default")))

// Of the headers whose structs Python mirrors: what was compiled from others must not be called.
EXPORT uint32_t conv_interface() { return INTERFACE; }

// Highest instruction set of this processor: 0 baseline, 1 AVX2 with FMA, 2 AVX-512.
EXPORT int conv_best_level() { return best_level(); }

// GOMP_parallel of the OpenMP runtime that PyTorch has loaded, so that both share one set of threads. Null: helpers.
EXPORT void conv_use_openmp(void *gomp_parallel) {
    parallel_as_pytorch = gomp_parallel ? reinterpret_cast<Parallel>(gomp_parallel) : parallel_on_helpers;
}

// `dims`: of x, y, w, out. `couplings`: path after path, dense (2 l1 + 1, 2 l2 + 1, 2 l3 + 1).
EXPORT int conv_plan_create(int64_t num_paths, const Path *paths, const int64_t *dims, const double *couplings, void **result) {
    OwnedPlan *plan = new OwnedPlan;
    for (int64_t p = 0; p < num_paths; p++) {
        Path path = paths[p];
        const bool known = std::max({path.l1, path.l2, path.l3}) <= MAX_L;
        path.coupling_offset = int64_t(plan->double_couplings.size());
        if (!known || !pack(path, couplings, plan->double_couplings)) {
            delete plan;
            return known ? BAD_COUPLING : BAD_DEGREE;
        }
        couplings += (2 * path.l1 + 1) * (2 * path.l2 + 1) * (2 * path.l3 + 1);
        plan->path_storage.push_back(path);
    }
    plan->float_couplings.assign(plan->double_couplings.begin(), plan->double_couplings.end());
    plan->num_paths = num_paths;
    plan->paths = plan->path_storage.data();
    plan->couplings[0] = plan->float_couplings.data();
    plan->couplings[1] = plan->double_couplings.data();
    plan->dim_x = dims[0], plan->dim_y = dims[1], plan->dim_w = dims[2], plan->dim_out = dims[3];
    *result = plan;
    return OK;
}

EXPORT void conv_plan_free(void *plan) { delete static_cast<OwnedPlan *>(plan); }

EXPORT int conv_run(const void *plan_handle, const Problem *problem, int operation, int is_double, int level, int threads) {
    const Plan &plan = *static_cast<const OwnedPlan *>(plan_handle);
    static thread_local SortedEdges edges;  // keeps its memory from call to call
    const int64_t *centre = problem->edge_index, *neighbour = centre + problem->num_edges;
    const bool by_neighbour = operation == BACKWARD || operation == BACKWARD2;
    const Status status = edges.sort(by_neighbour ? neighbour : centre, by_neighbour ? centre : neighbour,
                                     problem->num_atoms, problem->num_edges);
    if (status != OK) return status;
    const int64_t worth_a_thread = 1 << 15;  // weights; below, waking a thread costs more than it saves
    const int64_t useful = 1 + problem->num_edges * plan.dim_w / worth_a_thread;
    threads = int(std::max<int64_t>(1, std::min({int64_t(threads), useful, problem->num_atoms})));
    const RowKernel kernel = row_kernels(std::min(level, best_level()), is_double)[operation];
    const int64_t piece = std::max<int64_t>(1, problem->num_atoms / (threads * 16));
    const EdgeRows &rows = edges.rows;  // of this thread: other threads have `edges` of their own
    run_pieces(parallel_as_pytorch, threads, problem->num_atoms, piece, [&](int64_t begin, int64_t end, int) { kernel(plan, *problem, rows, begin, end); });
    return OK;
}
