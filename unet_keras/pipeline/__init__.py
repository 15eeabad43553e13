"""The tf.data graph from shards to augmented batches."""
