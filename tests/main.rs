mod kv;
