"""What an LLMService is told about itself: conditions, and the root causes behind them."""
