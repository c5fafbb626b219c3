// A pool of threads for a machine that has other work too. The caller takes pieces like everybody else and never waits
// for a thread that has not begun, only for pieces that somebody holds. Nobody spins for longer than it takes to wake.
#include "pool.h"

#include <pthread.h>
#include <signal.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <system_error>
#include <thread>

thread_local int64_t thread_count = 1;

namespace {

using Clock = std::chrono::steady_clock;
constexpr std::chrono::microseconds SPIN(100);  // of a thread without a job and of a caller without a piece
constexpr int64_t MOST_HELPERS = 255;

inline void relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// Looks whether something is so, again and again for a short time.
template <typename Condition>
bool soon(const Condition& condition) {
  for (const auto end = Clock::now() + SPIN; Clock::now() < end;)
    for (int i = 0; i < 16; ++i, relax())
      if (condition()) return true;
  return condition();
}

class Pool {
 public:
  // Does a job with at most `helpers` other threads; false, and nothing done, while another caller's is at work.
  bool run(int64_t count, int64_t least, int64_t helpers, void (*piece)(const void*, int64_t), const void* work) {
    const std::unique_lock<std::mutex> turn(turn_, std::try_to_lock);
    if (!turn) return false;
    count_ = count, least_ = least, helpers_ = helpers, piece_ = piece, work_ = work, error_ = nullptr;
    next_ = 0;
    grow(helpers);
    state_ = (job_ += JOB) | OPEN;
    for (int64_t i = 0; i < helpers && asleep_ > i; ++i) begun_.notify_one();  // one that misses it is not needed
    take_pieces();
    state_ &= ~OPEN;
    const auto over = [&] { return !(state_ & INSIDE); };
    if (!soon(over)) {
      std::unique_lock<std::mutex> lock(mutex_);
      over_.wait(lock, over);
    }
    if (error_) std::rethrow_exception(error_);
    return true;
  }

 private:
  // The state: how many helpers are inside, whether more may come, and the job's number.
  static constexpr uint64_t INSIDE = 0xffff, OPEN = 0x10000, JOB = 0x20000;

  void take_pieces() {
    for (int64_t i; (i = next_.fetch_add(least_)) < count_;) try {
        for (const int64_t end = std::min(i + least_, count_); i < end; ++i) piece_(work_, i);
      } catch (...) {
        const std::lock_guard<std::mutex> lock(mutex_);
        error_ = std::current_exception();
        next_ = count_;
      }
  }

  // Where threads cannot be had, there are fewer helpers.
  void grow(int64_t helpers) {
    sigset_t all, before;
    sigfillset(&all);
    if (threads_ >= helpers) return;
    pthread_sigmask(SIG_SETMASK, &all, &before);  // signals are for the threads of the program
    try {
      for (; threads_ < helpers; ++threads_) std::thread([this] { help(); }).detach();
    } catch (const std::system_error&) {
    }
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
  }

  [[noreturn]] void help() {
    uint64_t last = 0, state;
    const auto wanted = [&] {
      state = state_;
      return (state & OPEN) && state / JOB != last && int64_t(state & INSIDE) < helpers_;
    };
    for (;;) {
      if (!soon(wanted)) {
        std::unique_lock<std::mutex> lock(mutex_);
        ++asleep_;
        begun_.wait(lock, wanted);
        --asleep_;
      }
      if (!state_.compare_exchange_strong(state, state + 1)) continue;
      last = state / JOB;
      take_pieces();
      if (((--state_) & (INSIDE | OPEN)) == 0) {
        const std::lock_guard<std::mutex> lock(mutex_);
        over_.notify_one();
      }
    }
  }

  std::mutex turn_, mutex_;
  std::condition_variable begun_, over_;
  std::atomic<uint64_t> state_{0};
  std::atomic<int64_t> next_{0}, helpers_{0}, asleep_{0};
  uint64_t job_ = 0;
  int64_t threads_ = 0, count_ = 0, least_ = 0;
  void (*piece_)(const void*, int64_t) = nullptr;
  const void* work_ = nullptr;
  std::exception_ptr error_;
};

// Never destroyed: its threads sleep in it until the process ends. A forked child has none of them, so it gets another.
Pool* pool = nullptr;

Pool& current() {
  static const bool registered = (pool = new Pool, pthread_atfork(nullptr, nullptr, [] { pool = new Pool; }) == 0);
  (void)registered;
  return *pool;
}

}  // namespace

void divide(int64_t count, int64_t least, void (*piece)(const void*, int64_t), const void* work) {
  const int64_t helpers = std::min({thread_count, (count + least - 1) / least, MOST_HELPERS + 1}) - 1, mine = thread_count;
  thread_count = 1;  // a piece is not divided further
  struct Restore {
    int64_t value;
    ~Restore() { thread_count = value; }
  } restore{mine};
  if (helpers > 0 && current().run(count, least, helpers, piece, work)) return;
  for (int64_t i = 0; i < count; ++i) piece(work, i);
}
