mod quant;
