// SPDX-License-Identifier: BSL-1.0
// Reset code for QEMU's riscv64 "virt" machine, in machine mode and without paging.
  .section .text.start, "ax"
  .global _start
_start:
  csrr t0, mhartid
  bnez t0, 3f
  .option push
  .option norelax
  la gp, __global_pointer$
  .option pop
  la t0, trap
  csrw mtvec, t0
  // Enable the floating-point unit: compilers may use its registers.
  li t0, 0x2000
  csrs mstatus, t0
  la sp, stack_end
  // Clear .bss.
  la t0, bss_begin
  la t1, bss_end
1:
  bgeu t0, t1, 2f
  sd zero, 0(t0)
  addi t0, t0, 8
  j 1b
2:
  call firmware_main
  // Falls through.
  .global power_off
power_off:
  // SiFive test finisher: pass.
  li t0, 0x100000
  li t1, 0x5555
  sw t1, 0(t0)
3:
  wfi
  j 3b

  // Any trap is reported and ends the program.
  .balign 4
trap:
  csrr a0, mcause
  csrr a1, mepc
  csrr a2, mtval
  call firmware_exception
  j power_off
