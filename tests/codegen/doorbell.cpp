// SPDX-License-Identifier: BSL-1.0
// A doorbell on a mapped BAR is one store, behind the barrier that its architecture needs between
// memory that the device will read and the register that makes it read: none on x86.
//
// EXPECT ring_doorbell x86_64: movq \(%rdi\), %rax; movl %esi, \(%rax\); retq?
// EXPECT ring_doorbell aarch64: dmb osh; ldr x0, \[x0\]; str w1, \[x0\]; ret
// EXPECT ring_doorbell riscv64: fence rw, ow; ld a5,0\(a0\); sw a1,0\(a5\); ret
// EXPECT ring_doorbell cortex-m33: dmb; ldr r3, \[r0\]; str r1, \[r3\]; bx lr
#include <phasebit/pcie/mapped_bar.hpp>

#include <cstdint>

extern "C" void ring_doorbell(phasebit::pcie::mmio_doorbell& doorbell, std::uint32_t value) {
  doorbell.ring(value);
}
