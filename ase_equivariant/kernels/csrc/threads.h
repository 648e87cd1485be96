// Parallel loops. For the objects compiled for the baseline only.
#pragma once
#include <algorithm>
#include <atomic>
#include <cstdint>

// Calls work(data) on this thread and on at most `threads` - 1 others; returns when all calls have. As GOMP_parallel.
typedef void (*Parallel)(void (*work)(void *), void *data, unsigned threads, unsigned flags);

// On helpers that happen to be free (helpers.cpp): for whole networks, which need PyTorch's threads for nothing.
void parallel_on_helpers(void (*work)(void *), void *data, unsigned threads, unsigned flags);
// On the threads that PyTorch has already, where it runs on OpenMP: for what stands between its own operators. Their
// threads spin for a while after each, and helpers would compete with them. See conv_use_openmp.
extern Parallel parallel_as_pytorch;

// body(share) for every share from 0 to threads - 1, on as many threads as there are.
template <class Body> void run_shares(Parallel parallel, int threads, Body &&body) {
    struct Job {
        Body &body;
        int threads;
        std::atomic<int> next{0};
        static void work(void *data) {
            Job &job = *static_cast<Job *>(data);
            for (int share; (share = job.next.fetch_add(1)) < job.threads;) job.body(share);
        }
    } job{body, threads};
    if (threads == 1) return body(0);
    parallel(Job::work, &job, unsigned(threads), 0);
}

// body(begin, end, share) on pieces of 0 .. n - 1. Which thread takes a piece must not matter to the result.
template <class Body> void run_pieces(Parallel parallel, int threads, int64_t n, int64_t piece, Body &&body) {
    if (n <= 0) return;
    if (threads == 1) return body(int64_t(0), n, 0);
    std::atomic<int64_t> next{0};
    run_shares(parallel, threads, [&](int share) {
        for (int64_t begin; (begin = next.fetch_add(piece)) < n;) body(begin, std::min(begin + piece, n), share);
    });
}
