"""TFRecord shards: how one record is coded, how shards are written, resumed and verified."""
