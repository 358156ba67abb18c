// SPDX-License-Identifier: BSL-1.0
// Declarations for the snippets of docs/virtio.md.
#pragma once

#include <phasebit/phasebit.hpp>
#include <phasebit/virtio/device/split_queue.hpp>

#include <array>

using translator = phasebit::identity_translator<phasebit::guest_space, phasebit::local_space>;
extern phasebit::virtio::device::split_queue<phasebit::thread_order> queue;
extern translator memory;
extern std::uint32_t written;
extern std::uint16_t vector;
struct interrupt_sink {
  void raise(std::uint16_t) noexcept;
};
extern interrupt_sink interrupts;
template <class A, class B>
void serve(const A&, const B&) noexcept;
inline void sleep() noexcept {}
