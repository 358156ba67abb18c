// SPDX-License-Identifier: BSL-1.0
// SCSI disks for a virtual machine: serves images as the logical units of one target over vhost-user.
//
//   vhost_user_scsi --socket disks.sock --image first.img --image second.img --queues 2
//
// and for the machine, with memory that is shared:
//
//   qemu-system-x86_64 -object memory-backend-memfd,id=m,size=1G,share=on -machine memory-backend=m
//     -chardev socket,id=c,path=disks.sock -device vhost-user-scsi-pci,chardev=c,num_queues=2 ...
//
// One thread polls and sleeps when there is nothing to do. When the front end leaves, the next one
// is awaited; --once ends then.
#include "support/vhost_server.hpp"

#include <phasebit/transport/vhost_user/scsi_device.hpp>

#include <string>
#include <vector>

int main(int argc, char** argv) {
  namespace scsi = phasebit::virtio::scsi;
  example::vhost_options o;
  std::vector<std::string> images;
  std::string serial = "PHASEBIT";
  CLI::App app{"Serves disk images to a virtual machine as SCSI logical units, over vhost-user."};
  app.add_option("--image", images, "raw image or block device; several: one logical unit each")
      ->required();
  app.add_option("--serial", serial,
                 "serial numbers are this text and the number of the logical unit");
  example::add_vhost_options(app, o);
  CLI11_PARSE(app, argc, argv);
  std::vector<std::string> serials;
  for (std::size_t i = 0; i != images.size(); ++i)
    serials.push_back(fmt::format("{}-{}", serial, i));
  std::vector<scsi::logical_unit> units;
  for (std::size_t i = 0; i != images.size(); ++i) {
    units.emplace_back(scsi::logical_unit_options{.serial = serials[i], .read_only = o.read_only});
  }
  return example::with_media(images, o, [&](auto& media, int finished) {
    phasebit::transport::vhost_user::scsi_device device{
        std::span{units}, std::span{media}, {}, o.depth};
    return example::serve_socket(device, o, finished,
                                 fmt::format("{} logical units", units.size()));
  });
}
