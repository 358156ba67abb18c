// SPDX-License-Identifier: BSL-1.0
// A function object of a few words, stored in place: no allocation, no virtual call.
#pragma once

#include <phasebit/core/expects.hpp>

#include <cstddef>
#include <new>
#include <type_traits>

namespace phasebit {

// Holds any callable that takes an Argument, may be copied bytewise and fits `Bytes`: a lambda that
// captures up to three pointers. Trivially copyable; calling an empty one breaks a precondition.
template <class Argument, std::size_t Bytes = 3 * sizeof(void*)>
class inplace_callback {
 public:
  inplace_callback() noexcept = default;

  template <class F>
    requires(!std::is_same_v<std::remove_cvref_t<F>, inplace_callback>)
  PHASEBIT_ALWAYS_INLINE inplace_callback(F callable) noexcept {
    static_assert(std::is_nothrow_invocable_v<F&, Argument>,
                  "a completion callback takes a completion and is noexcept: write "
                  "[&](phasebit::nvme::driver::completion c) noexcept { ... }");
    static_assert(std::is_trivially_copyable_v<F> && std::is_trivially_destructible_v<F>,
                  "a completion callback is copied bytewise: capture pointers and references only");
    static_assert(sizeof(F) <= Bytes && alignof(F) <= alignof(void*),
                  "the callback captures more than three words: capture a pointer to a struct");
    ::new (static_cast<void*>(storage_)) F(callable);
    call_ = [](void* self, Argument argument) noexcept { (*static_cast<F*>(self))(argument); };
  }

  explicit operator bool() const noexcept { return call_ != nullptr; }

  PHASEBIT_ALWAYS_INLINE void operator()(Argument argument) noexcept {
    PHASEBIT_EXPECTS(call_ != nullptr, "an empty callback was called");
    call_(storage_, argument);
  }

 private:
  void (*call_)(void*, Argument) noexcept = nullptr;
  alignas(void*) std::byte storage_[Bytes];
};

}  // namespace phasebit
