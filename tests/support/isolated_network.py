"""Runs a program in a network without an exit and prints the addresses that it tried to reach.

    unshare --net python isolated_network.py PROGRAM WORD...

Linux only, as root. The only interface is a loopback that has every address, so that each attempt is a packet
on it. The exit status is that of the program.
"""

from __future__ import annotations

import socket
import struct
import subprocess
import sys
import threading

ALL_PROTOCOLS = 3  # ETH_P_ALL of linux/if_ether.h
IPV4, IPV6, UDP = 0x0800, 0x86DD, 17


def get_destination(packet: bytes) -> str | None:
    """Returns the destination of an Ethernet frame, or None for this machine; name servers always count."""
    (kind,) = struct.unpack("!H", packet[12:14])
    if kind == IPV6:
        address = socket.inet_ntop(socket.AF_INET6, packet[38:54])
        return None if address == "::1" else address
    if kind != IPV4:
        return None
    address = socket.inet_ntoa(packet[30:34])
    start = 14 + (packet[14] & 15) * 4
    (port,) = struct.unpack("!H", packet[start + 2 : start + 4])
    if packet[23] == UDP and port == 53:
        return f"name server {address}"
    return None if address.startswith("127.") else f"{address}:{port}"


def main() -> None:
    """Sets up the network, listens, and runs the program."""
    for words in ("link set lo up", "route add local default dev lo", "-6 route add local default dev lo"):
        subprocess.run(["ip", *words.split()], check=True)
    seen: set[str] = set()
    tap = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ALL_PROTOCOLS))
    tap.bind(("lo", 0))

    def listen() -> None:
        while True:
            address = get_destination(tap.recv(65535))
            if address is not None:
                seen.add(address)

    threading.Thread(target=listen, daemon=True).start()
    done = subprocess.run(sys.argv[1:], check=False, stdout=sys.stderr)
    print(*sorted(seen), sep="\n")
    sys.exit(done.returncode)


if __name__ == "__main__":
    main()
