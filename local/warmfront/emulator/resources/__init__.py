"""Makes a template's tables, queues, topics, buckets, parameters, secrets and the like in the local AWS."""
