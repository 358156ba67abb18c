// SPDX-License-Identifier: BSL-1.0
// Reset code for QEMU's aarch64 "virt" machine. The MMU stays off: all memory is device memory to the
// processor, so that the program is compiled with -mstrict-align.
  .section .text.start, "ax"
  .global _start
_start:
  // Let EL1 use the vector registers.
  mov x0, #(3 << 20)
  msr cpacr_el1, x0
  adrp x0, vectors
  add x0, x0, :lo12:vectors
  msr vbar_el1, x0
  isb
  adrp x0, stack_end
  add x0, x0, :lo12:stack_end
  mov sp, x0
  // Clear .bss.
  adrp x0, bss_begin
  add x0, x0, :lo12:bss_begin
  adrp x1, bss_end
  add x1, x1, :lo12:bss_end
1:
  cmp x0, x1
  b.hs 2f
  str xzr, [x0], #8
  b 1b
2:
  bl firmware_main
  b power_off

  // PSCI SYSTEM_OFF.
  .global power_off
power_off:
  movz x0, #0x8400, lsl #16
  movk x0, #0x0008
  hvc #0
3:
  wfi
  b 3b

  // Any exception is reported and ends the program.
  .balign 2048
vectors:
  .rept 16
  .balign 128
  b report
  .endr
report:
  mrs x0, esr_el1
  mrs x1, elr_el1
  mrs x2, far_el1
  bl firmware_exception
  b power_off
