// Threads that divide the work of one call.
#pragma once

#include <cstdint>
#include <new>

// Calls run(work, i) once for every i in 0..count, `least` neighbours at a time, and returns when all are done. The
// calling thread takes its share; other threads take theirs if they come in time. Nothing depends on who takes what.
// Raises what a call raised.
void divide(int64_t count, int64_t least, void (*run)(const void*, int64_t), const void* work);

template <typename Work>
void parallel_for(int64_t count, int64_t least, const Work& work) {
  divide(count, least, [](const void* given, int64_t i) { (*static_cast<const Work*>(given))(i); }, &work);
}

// How many threads `parallel_for` may use in this thread: what the call at hand was given.
extern thread_local int64_t thread_count;

// An exported function's body: 0, or 1 if memory was refused. No exception may pass through C.
template <typename Work>
int with_threads(int64_t threads, const Work& work) {
  thread_count = threads;
  try {
    work();
    return 0;
  } catch (const std::bad_alloc&) {
    return 1;
  }
}
