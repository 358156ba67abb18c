// SPDX-License-Identifier: BSL-1.0
// The cost of publishing an entry and of finding one. docs/memory-order.md gives the reason for
// each barrier.
#include <phasebit/core/byte_order.hpp>
#include <phasebit/core/copy.hpp>
#include <phasebit/core/ordering.hpp>

#include <cstdint>

using namespace phasebit;

extern "C" {

// EXPECT thread_load: <thread_load:32>
std::uint32_t thread_load(const std::uint32_t& word) { return thread_order::load(word); }
// EXPECT thread_load_le: <thread_load:32>
std::uint32_t thread_load_le(const le<std::uint32_t>& word) { return thread_order::load(word); }
// EXPECT thread_load16: <thread_load:16>
std::uint32_t thread_load16(const le<std::uint16_t>& word) { return thread_order::load(word); }
// EXPECT thread_store: <thread_store:32>
void thread_store(std::uint32_t& word, std::uint32_t v) { thread_order::store(word, v); }
// EXPECT thread_store_le: <thread_store:32>
void thread_store_le(le<std::uint32_t>& word, std::uint32_t v) { thread_order::store(word, v); }
// EXPECT thread_store16: <thread_store:16>
void thread_store16(le<std::uint16_t>& word, std::uint16_t v) { thread_order::store(word, v); }
// EXPECT thread_full: <thread_full>
void thread_full() { thread_order::full(); }

// Looking in vain costs a load: the barrier stands behind the hit.
// EXPECT device_load: load32
std::uint32_t device_load(const std::uint32_t& word) { return device_order::load(word); }
// EXPECT device_load_le: load32
std::uint32_t device_load_le(const le<std::uint32_t>& word) { return device_order::load(word); }
// EXPECT device_after_load: <acquire>
void device_after_load() { device_order::after_load(); }
// EXPECT device_store: <release>; store32
void device_store(std::uint32_t& word, std::uint32_t v) { device_order::store(word, v); }
// EXPECT device_store_le: <release>; store32
void device_store_le(le<std::uint32_t>& word, std::uint32_t v) { device_order::store(word, v); }
// EXPECT device_store16: <release>; store16
void device_store16(le<std::uint16_t>& word, std::uint16_t v) { device_order::store(word, v); }
// EXPECT device_full: <full>
void device_full() { device_order::full(); }

// EXPECT device_poll: load32; branch; <acquire>; load32
std::uint32_t device_poll(const std::uint32_t& flag, const std::uint32_t& data) {
  if (device_order::load(flag) == 0) return 0;
  device_order::after_load();
  return data;
}

// Where the processor needs no instruction, the compiler must not swap the two either.
// EXPECT device_publish: store32; <release>; store32
void device_publish(std::uint32_t& data, std::uint32_t& index) {
  data = 1;
  device_order::store(index, 1);
}

// Each word is read once, however often the copy is used.
// EXPECT snapshot_once: load32
std::uint32_t snapshot_once(const le<std::uint32_t>& shared) {
  const auto copy = snapshot(shared);
  return copy.get() ^ (copy.get() >> 1);
}
// EXPECT overwrite_entry: store16; store16; store16
void overwrite_entry(std::uint16_t* shared, std::uint16_t v) {
  struct entry {
    le<std::uint16_t> a, b, c;
  };
  overwrite(*reinterpret_cast<entry*>(shared), entry{v, v, v});
}

}  // extern "C"
