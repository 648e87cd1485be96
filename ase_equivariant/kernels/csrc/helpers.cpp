// Threads that help whoever is at work, if they are free. At the end of a loop nobody waits for a helper that has not
// begun: on a machine with other work on its processors it may not be given one for milliseconds, in which the caller
// does everything itself. (A team of OpenMP waits for all its threads after each loop, and a network is twenty loops.)
#include <pthread.h>
#include <signal.h>

#include <chrono>
#include <condition_variable>
#include <mutex>
#include <system_error>
#include <thread>

#include "threads.h"

namespace {

constexpr auto AWAKE = std::chrono::milliseconds(1);  // from loop to loop, and through the rest of a step of dynamics

struct Helpers {
    std::mutex turn;  // of those who ask for help: who has to wait for it works alone
    void (*work)(void *) = nullptr;
    void *data = nullptr;
    std::atomic<uint32_t> state{0};  // helpers still wanted << 16 | helpers at work
    unsigned count = 0;

    std::mutex bed;
    std::condition_variable wake;
    std::atomic<int> asleep{0};
};

std::atomic<Helpers *> current{nullptr};  // never destroyed: helpers may look at it as long as the process lives

void pause_briefly() {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
}

bool begin(Helpers &helpers) {
    uint32_t state = helpers.state.load();
    while (state >> 16)
        if (helpers.state.compare_exchange_weak(state, state - (1 << 16) + 1)) return true;
    return false;
}

bool begin_soon(Helpers &helpers) {
    const auto end = std::chrono::steady_clock::now() + AWAKE;
    do
        for (int k = 0; k < 32; k++, pause_briefly())
            if (begin(helpers)) return true;
    while (std::chrono::steady_clock::now() < end);
    return false;
}

void help(Helpers *helpers) {
    for (;;) {
        if (begin_soon(*helpers)) {
            helpers->work(helpers->data);
            helpers->state--;
            continue;
        }
        std::unique_lock<std::mutex> lock(helpers->bed);
        helpers->asleep++;
        helpers->wake.wait(lock, [&] { return helpers->state >> 16; });
        helpers->asleep--;
    }
}

void hire(Helpers &helpers, unsigned count) {
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);  // signals are for the program's own threads
    try {
        for (; helpers.count < count; helpers.count++) std::thread(help, &helpers).detach();
    } catch (const std::system_error &) {
    }  // the system grants no more: those there are will do
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

Helpers &all_helpers() {
    Helpers *found = current.load(), *fresh;
    if (found) return *found;
    // A forked process has none of its parent's threads, and perhaps a lock that one of them held: it starts anew.
    static const int registered = pthread_atfork(nullptr, nullptr, [] { current = nullptr; });
    (void)registered;
    if (current.compare_exchange_strong(found, fresh = new Helpers)) return *fresh;
    delete fresh;
    return *found;
}

}  // namespace

void parallel_on_helpers(void (*work)(void *), void *data, unsigned threads, unsigned) {
    Helpers &helpers = all_helpers();
    const std::unique_lock<std::mutex> turn(helpers.turn, std::try_to_lock);
    if (!turn) return work(data);
    hire(helpers, threads - 1);
    helpers.work = work;
    helpers.data = data;
    helpers.state = std::min(threads - 1, helpers.count) << 16;
    if (helpers.asleep) {
        { const std::lock_guard<std::mutex> lock(helpers.bed); }  // whoever is going to bed gets there, or stays up
        helpers.wake.notify_all();
    }
    work(data);
    helpers.state &= 0xffff;
    for (int k = 0; helpers.state; k++) {
        if (k < 1000) pause_briefly();
        else std::this_thread::yield();  // a helper with work may be waiting for this very processor
    }
}
