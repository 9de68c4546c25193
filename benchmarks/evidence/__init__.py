"""Methods compared on real images, by the protocol of ``docs/protocol.md``."""
