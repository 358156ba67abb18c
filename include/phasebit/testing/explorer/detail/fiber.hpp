// SPDX-License-Identifier: BSL-1.0
// Threads of an explored program: stacks that are switched between, all on one thread of the machine.
#pragma once

#include <csetjmp>
#include <cstddef>
#include <memory>

#include <setjmp.h>
#include <ucontext.h>

namespace phasebit::testing::explorer::detail {

// Runs a function on a stack of its own, from its beginning each time start() is called. A function
// that is left in the middle is abandoned: nothing on its stack is destroyed. After the first start,
// switches are jumps within the process, without a system call.
class fiber {
 public:
  using entry = void (*)(void* context);

  fiber(entry function, void* context)
      : function_(function),
        context_(context),
        stack_(std::make_unique_for_overwrite<std::byte[]>(stack_bytes)) {}
  fiber(const fiber&) = delete;
  fiber& operator=(const fiber&) = delete;

  // Runs the function from its beginning until it calls leave() or returns.
  void start() noexcept {
    if (has_base_) {
      enter(base_);
      return;
    }
    getcontext(&first_);
    first_.uc_stack.ss_sp = stack_.get();
    first_.uc_stack.ss_size = stack_bytes;
    first_.uc_link = nullptr;
    const auto self = reinterpret_cast<std::size_t>(this);
    makecontext(&first_, reinterpret_cast<void (*)()>(&fiber::trampoline), 2,
                static_cast<unsigned>(self >> 32), static_cast<unsigned>(self & 0xffff'ffffU));
    if (_setjmp(outside_) == 0) setcontext(&first_);
  }
  // Goes on where leave() was called.
  void resume() noexcept { enter(inside_); }
  // From inside: returns to the caller of start() or resume().
  void leave() noexcept {
    if (_setjmp(inside_) == 0) _longjmp(outside_, 1);
  }

 private:
  static constexpr std::size_t stack_bytes = std::size_t{256} * 1024;

  void enter(jmp_buf& there) noexcept {
    if (_setjmp(outside_) == 0) _longjmp(there, 1);
  }
  static void trampoline(unsigned high, unsigned low) noexcept {
    reinterpret_cast<fiber*>((std::size_t{high} << 32) | low)->run();
  }
  [[noreturn]] void run() noexcept {
    has_base_ = true;
    // Each start() jumps to this point, which drops what an abandoned run has left on the stack.
    static_cast<void>(_setjmp(base_));
    function_(context_);
    for (;;) leave();
  }

  entry function_;
  void* context_;
  std::unique_ptr<std::byte[]> stack_;
  ucontext_t first_{};
  jmp_buf base_;
  jmp_buf inside_;
  jmp_buf outside_;
  bool has_base_ = false;
};

}  // namespace phasebit::testing::explorer::detail
