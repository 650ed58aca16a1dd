"""Copy: chunks of shards out of MySQL, into one merged table of TiDB; or through files in between."""
