// SPDX-License-Identifier: BSL-1.0
// A disk for a virtual machine: serves an image over vhost-user.
//
//   vhost_user_blk --socket disk.sock --image disk.img --queues 2 --io uring
//
// and for the machine, with memory that is shared:
//
//   qemu-system-x86_64 -object memory-backend-memfd,id=m,size=1G,share=on -machine memory-backend=m
//     -chardev socket,id=c,path=disk.sock,reconnect=1 -device vhost-user-blk-pci,chardev=c,num-queues=2 ...
//
// One thread polls and sleeps when there is nothing to do. When the front end leaves, the next one
// is awaited; --once ends then.
#include "support/vhost_server.hpp"

#include <phasebit/transport/vhost_user/blk_device.hpp>

#include <string>
#include <vector>

int main(int argc, char** argv) {
  example::vhost_options o;
  std::string image;
  CLI::App app{"Serves a disk image to a virtual machine over vhost-user."};
  app.add_option("--image", image, "raw image or block device")->required();
  example::add_vhost_options(app, o);
  CLI11_PARSE(app, argc, argv);
  return example::with_media({image}, o, [&](auto& media, int finished) {
    phasebit::transport::vhost_user::blk_device device{
        std::span{media}, {.id = "phasebit-vhost-user", .read_only = o.read_only}, o.depth};
    return example::serve_socket(device, o, finished, image);
  });
}
