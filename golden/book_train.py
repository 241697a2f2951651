"""The book's training: samples, loaders, loop, evaluation.

Source: Sebastian Raschka, Build a Large Language Model (From Scratch), chapters 2 and 5. What
draws random numbers draws them here in the book's order: a pass over a loader when it begins,
dropout in each forward pass of training, and an evaluation by two passes over loaders, of which
that of training shuffles.
"""

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset


class Windows(Dataset):
    """Samples of max_length tokens, stride apart; targets are one token on."""

    def __init__(self, ids, max_length, stride):
        starts = range(0, len(ids) - max_length, stride)
        self.inputs = [torch.tensor(ids[i : i + max_length]) for i in starts]
        self.targets = [torch.tensor(ids[i + 1 : i + max_length + 1]) for i in starts]

    def __len__(self):
        return len(self.inputs)

    def __getitem__(self, i):
        return self.inputs[i], self.targets[i]


def loaders(train_ids, val_ids, batch_size, max_length, stride):
    train, val = (Windows(ids, max_length, stride) for ids in (train_ids, val_ids))
    return (
        DataLoader(train, batch_size=batch_size, shuffle=True, drop_last=True, num_workers=0),
        DataLoader(val, batch_size=batch_size, shuffle=False, drop_last=False, num_workers=0),
    )


def loss_of_batch(model, inputs, targets):
    return nn.functional.cross_entropy(model(inputs).flatten(0, 1), targets.flatten())


def loss_of_loader(model, loader, n_batches):
    total, n_batches = 0.0, min(n_batches, len(loader))
    for i, (inputs, targets) in enumerate(loader):
        if i == n_batches:
            break
        total += loss_of_batch(model, inputs, targets).item()
    return total / n_batches


def evaluate(model, train_loader, val_loader, eval_iter):
    model.eval()
    with torch.no_grad():
        losses = [loss_of_loader(model, loader, eval_iter) for loader in (train_loader, val_loader)]
    model.train()
    return losses


def greedy(model, ids, n_tokens, context):
    """The ids and n_tokens more, as generate_text_simple gives them."""
    model.eval()
    ids = torch.tensor([ids])
    with torch.no_grad():
        for _ in range(n_tokens):
            logits = model(ids[:, -context:])[:, -1]
            ids = torch.cat([ids, torch.argmax(logits, dim=-1, keepdim=True)], dim=1)
    model.train()
    return ids[0].tolist()


def train(model, optimizer, train_loader, val_loader, n_epochs, eval_freq, eval_iter, observer):
    """Tells the observer of every batch (step, loss, inputs), evaluation (step, losses), epoch."""
    step = -1
    for epoch in range(n_epochs):
        model.train()
        for inputs, targets in train_loader:
            optimizer.zero_grad()
            loss = loss_of_batch(model, inputs, targets)
            loss.backward()
            optimizer.step()
            step += 1
            observer.batch(step, loss.item(), inputs)
            if step % eval_freq == 0:
                observer.evaluation(step, *evaluate(model, train_loader, val_loader, eval_iter))
        observer.epoch_end(epoch + 1)
