// SPDX-License-Identifier: BSL-1.0
// The mailbox of a reactor as it is shipped, over a stand-in for Boost's queue: senders and the receiver that
// closes it.
#pragma once

#include <phasebit/hosted/mailbox.hpp>

#include <array>
#include <cstddef>
#include <cstdint>

#include <model/support.hpp>

namespace model {

struct letters {
  std::array<std::uint32_t, 2> next{};  // of each sender
  std::uint32_t ran = 0;
  explorer::plain<std::uint32_t> written;
};

template <std::size_t Capacity>
using box_type = phasebit::hosted::mailbox<letters&, Capacity>;

// Accepted messages run once, in each sender's order, and see what was written before they were posted.
template <std::size_t Capacity>
auto post_and_close(std::uint32_t senders, std::uint32_t messages) {
  return [=](program& p) {
    auto& box = p.make<box_type<Capacity>>();
    auto& seen = p.make<letters>();
    auto& accepted = p.make<std::array<std::uint32_t, 2>>();
    auto& data = p.make<std::array<explorer::plain<std::uint32_t>, 2>>();
    p.name(box, "the mailbox");
    p.atomic(box);
    for (std::uint32_t s = 0; s != senders; ++s) {
      p.thread(s == 0 ? "first sender" : "second sender", [=, &box, &accepted, &data] {
        for (std::uint32_t i = 0; i != messages; ++i) {
          auto* const written = &data[s];
          if (i == 0) written->write(7);
          const bool taken = box.post([s, written](letters& to) noexcept {
            check(written->read() == 7, "a message sees what was written before it");
            ++to.next[s];
            ++to.ran;
          });
          if (!taken) break;
          ++accepted[s];
        }
      });
    }
    p.thread("receiver", [&box, &seen] {
      if (choose(2) == 0) static_cast<void>(box.run(seen));
      box.close(seen);
      check(!box.post([](letters&) noexcept {}), "a closed mailbox takes no message");
    });
    p.finally([&seen, &accepted] {
      check(seen.next == accepted, "the messages that were accepted have run");
    });
  };
}

}  // namespace model
