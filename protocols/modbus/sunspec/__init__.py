"""SunSpec: what a device tells of itself in registers, as points that can be read."""

from protocols.modbus.sunspec.chain import Block, blocks_of, registers_of
from protocols.modbus.sunspec.listing import block_at, models_page, points_page

__all__ = ["Block", "block_at", "blocks_of", "models_page", "points_page", "registers_of"]
