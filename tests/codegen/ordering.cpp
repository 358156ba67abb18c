// SPDX-License-Identifier: BSL-1.0
// What publishing an entry and finding one cost. docs/memory-order.md says why each barrier is there.
//
// EXPECT publish_to_thread x86_64: movl %esi, \(%rdi\); retq?
// EXPECT publish_to_thread aarch64: stlr w1, \[x0\]; ret
// EXPECT publish_to_thread riscv64: fence (iorw|rw),o?w; (sw a1,0\(a0\)|amoswap\.w zero,a1,0\(a0\)); ret
// EXPECT publish_to_thread cortex-m33: stl r1, \[r0\]; bx lr
//
// EXPECT publish_to_device x86_64: movl %esi, \(%rdi\); retq?
// EXPECT publish_to_device aarch64: dmb osh; str w1, \[x0\]; ret
// EXPECT publish_to_device riscv64: fence rw, w; sw a1,0\(a0\); ret
// EXPECT publish_to_device cortex-m33: dmb; str r1, \[r0\]; bx lr
//
// Looking in vain costs a load: the barrier stands behind the hit.
// EXPECT poll_of_device x86_64: movl \(%rdi\), %eax; retq?
// EXPECT poll_of_device aarch64: ldr w0, \[x0\]; ret
// EXPECT poll_of_device riscv64: lw a0,0\(a0\); ret
// EXPECT poll_of_device cortex-m33: ldr r0, \[r0\]; bx lr
//
// EXPECT hit_of_device x86_64: retq?
// EXPECT hit_of_device aarch64: dmb oshld; ret
// EXPECT hit_of_device riscv64: fence r, rw; ret
// EXPECT hit_of_device cortex-m33: dmb; bx lr
#include <phasebit/core/ordering.hpp>

#include <cstdint>

using namespace phasebit;

extern "C" void publish_to_thread(std::uint32_t& word, std::uint32_t value) {
  thread_order::store(word, value);
}

extern "C" void publish_to_device(std::uint32_t& word, std::uint32_t value) {
  device_order::store(word, value);
}

extern "C" std::uint32_t poll_of_device(const std::uint32_t& word) {
  return device_order::load(word);
}

extern "C" void hit_of_device() { device_order::after_load(); }
